// Rates of the Monte Carlo engine on one core. items_per_second of the generators is numbers a second; that of the
// samplers is random numbers consumed a second (scores, keys, vector elements), with trials a second beside it.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include "sim/affinity.h"
#include "sim/engine.h"
#include "sim/gaussian.h"
#include "sim/sampler.h"
#include "sim/transforms.h"

namespace mobalab::sim {
namespace {

using analysis::Model;

void gaussian_fill(benchmark::State& state) {
    std::vector<float> out(static_cast<std::size_t>(state.range(0)));
    std::uint64_t subsequence = 0;
    for (auto _ : state) {
        fill_gaussian(out, PhiloxKey{1, 2}, subsequence++);
        benchmark::DoNotOptimize(out.data());
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(gaussian_fill)->Arg(8192)->Arg(1 << 24);

/// What a user would write without this room.
void gaussian_of_the_standard_library(benchmark::State& state) {
    std::vector<float> out(8192);
    std::mt19937_64 engine(1);
    std::normal_distribution<float> normal;
    for (auto _ : state) {
        for (float& x : out) {
            x = normal(engine);
        }
        benchmark::DoNotOptimize(out.data());
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations() * 8192);
}
BENCHMARK(gaussian_of_the_standard_library);

void affinity_fill(benchmark::State& state) {
    std::vector<std::int32_t> out(8192);
    const float exponent = affinity_exponent(state.range(0));
    std::uint64_t subsequence = 0;
    for (auto _ : state) {
        fill_affinities(out.data(), out.size(), PhiloxKey{1, 2}, subsequence++, 0, exponent);
        benchmark::DoNotOptimize(out.data());
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations() * 8192);
}
BENCHMARK(affinity_fill)->Arg(2)->Arg(64);

/// Arguments: model, head_dim, block_size, candidates.
void sampler(benchmark::State& state) {
    analysis::RoutingPoint point;
    point.model = static_cast<Model>(state.range(0));
    point.head_dim = state.range(1);
    point.block_size = state.range(2);
    point.candidates = state.range(3);
    point.mu_signal = 0.9;
    const auto trials_of = make_sampler(point, stream_key(1, stream_identity(point)));
    const std::uint64_t trials = chunk_trials(point);
    std::vector<std::uint64_t> histogram(512);
    std::uint64_t next = 0;
    for (auto _ : state) {
        trials_of->count_ranks(next, trials, histogram);
        next += trials;
    }
    std::int64_t numbers = point.candidates;
    if (point.model == Model::sphere || point.model == Model::vector) {
        numbers *= point.block_size;
    }
    if (point.model == Model::vector) {
        numbers *= point.head_dim;
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(next) * numbers);
    state.counters["trials"] = benchmark::Counter(static_cast<double>(next), benchmark::Counter::kIsRate);
    state.SetLabel(std::string(to_string(point.model)));
}
BENCHMARK(sampler)
    ->ArgNames({"model", "d", "B", "c"})
    ->Args({static_cast<int>(Model::gaussian), 64, 16, 64})
    ->Args({static_cast<int>(Model::gaussian), 64, 16, 1024})
    ->Args({static_cast<int>(Model::sphere), 64, 1, 1024})
    ->Args({static_cast<int>(Model::sphere), 64, 16, 64})
    ->Args({static_cast<int>(Model::sphere), 64, 16, 1024})
    ->Args({static_cast<int>(Model::sphere), 128, 64, 511})
    ->Args({static_cast<int>(Model::sphere), 128, 512, 63})
    ->Args({static_cast<int>(Model::vector), 64, 16, 64})
    ->Args({static_cast<int>(Model::vector), 128, 64, 64});

}  // namespace
}  // namespace mobalab::sim

BENCHMARK_MAIN();
