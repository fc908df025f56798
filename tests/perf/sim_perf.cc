// Rates of the Monte Carlo engine on one core. items_per_second of the generators is numbers a second; that of the
// samplers is random numbers consumed a second (scores, keys, vector elements), with trials a second beside it.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>
#include <vector>

#include "sim/engine/conditional.h"
#include "sim/engine/engine.h"
#include "sim/samplers/affinity.h"
#include "sim/samplers/sampler.h"
#include "sim/streams/gaussian.h"
#include "sim/streams/transforms.h"

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

/// Cycles a second of this core while it runs vector code: a chain of dependent additions, one cycle each.
double clock_rate() {
    std::vector<float> warm_up(1 << 16);
    double best = 0.0;
    for (int round = 0; round < 20; ++round) {
        fill_gaussian(warm_up, PhiloxKey{1, 2}, 0);
        constexpr int kAdditions = 1 << 20;
        std::uint64_t x = 1;
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < kAdditions; i += 8) {
            for (int j = 0; j < 8; ++j) {
                x += 3;
                asm volatile("" : "+r"(x));
            }
        }
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        best = std::max(best, kAdditions / seconds.count());
    }
    return best;
}

/// Numbers a second that a core with AVX-512 in two passes could reach if it issued its two vector operations in every
/// cycle (counted in tests/perf/NOTES_sim.md); 0 where nobody counted.
double issue_bound(Method method) {
    if (default_loops().set != InstructionSet::avx512) {
        return 0.0;
    }
    static const double clock = clock_rate();
    constexpr double kVectorOperations = 87.0 / 32.0;  // the root's 20 cycles of one of four pipes count for 8
    constexpr double kThresholdOperations = 58.0 / 64.0;
    return method == Method::vector      ? 2.0 * clock / kVectorOperations
           : method == Method::threshold ? 2.0 * clock / kThresholdOperations
                                         : 0.0;
}

/// Counts chunks of a point and reports trials and numbers (normals, keys or blocks) a second.
void count_chunks(benchmark::State& state, const analysis::RoutingPoint& point, Method method) {
    const auto trials_of =
        make_sampler(method, {point, stream_key(1, stream_identity(point, method)), &default_loops()});
    const std::uint64_t trials = chunk_trials(point, method);
    std::vector<std::uint64_t> histogram(512);
    std::uint64_t next = 0;
    for (auto _ : state) {
        trials_of->count_ranks(next, trials, histogram);
        next += trials;
    }
    std::int64_t numbers = point.candidates;
    if (method == Method::affinity || method == Method::vector) {
        numbers *= point.block_size;
    }
    if (method == Method::vector) {
        numbers *= point.head_dim;
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(next) * numbers);
    state.counters["trials"] = benchmark::Counter(static_cast<double>(next), benchmark::Counter::kIsRate);
}

/// Arguments: model, method, head_dim, block_size, candidates.
void sampler(benchmark::State& state) {
    analysis::RoutingPoint point;
    point.model = static_cast<Model>(state.range(0));
    const auto method = static_cast<Method>(state.range(1));
    point.head_dim = state.range(2);
    point.block_size = state.range(3);
    point.candidates = state.range(4);
    point.mu_signal = 0.9;
    count_chunks(state, point, method);
    if (const double bound = issue_bound(method); bound > 0.0) {
        state.counters["bound"] = bound;
    }
    state.SetLabel(std::string(to_string(point.model)) + ' ' + std::string(to_string(method)));
}
void rungs(benchmark::internal::Benchmark* bench) {
    const auto add = [&](Model model, Method method, std::int64_t d, std::int64_t b, std::int64_t c) {
        bench->Args({static_cast<int>(model), static_cast<int>(method), d, b, c});
    };
    for (const std::int64_t candidates : {64, 1024}) {
        add(Model::gaussian, Method::block, 64, 16, candidates);
        add(Model::sphere, Method::vector, 64, 16, candidates);
        add(Model::sphere, Method::affinity, 64, 16, candidates);
        add(Model::sphere, Method::block, 64, 16, candidates);
        add(Model::sphere, Method::threshold, 64, 16, candidates);
    }
    add(Model::sphere, Method::vector, 128, 64, 64);
    add(Model::sphere, Method::affinity, 64, 1, 1024);
    add(Model::sphere, Method::affinity, 128, 512, 63);
    add(Model::sphere, Method::threshold, 128, 512, 63);
}
BENCHMARK(sampler)->ArgNames({"model", "method", "d", "B", "c"})->Apply(rungs);

/// Points beyond the paper's setting; arguments: method, needles, key correlation in percent, width of the convolution,
/// activation.
void beyond_plain(benchmark::State& state) {
    analysis::RoutingPoint point;
    const auto method = static_cast<Method>(state.range(0));
    point.block_size = 16;
    point.candidates = 64;
    point.mu_signal = 0.9;
    point.needles = state.range(1);
    point.key_correlation = 0.01 * static_cast<double>(state.range(2));
    point.key_conv = state.range(3);
    point.key_conv_activation = static_cast<analysis::Activation>(state.range(4));
    count_chunks(state, point, method);
    state.SetLabel(std::string(to_string(method)));
}
void beyond_points(benchmark::internal::Benchmark* bench) {
    const auto add = [&](Method method, std::int64_t needles, std::int64_t percent, std::int64_t width,
                         analysis::Activation activation) {
        bench->Args({static_cast<int>(method), needles, percent, width, static_cast<int>(activation)});
    };
    for (const Method method : {Method::vector, Method::affinity}) {
        add(method, 4, 0, 0, analysis::Activation::none);
        add(method, 1, 10, 0, analysis::Activation::none);
        add(method, 1, 0, 3, analysis::Activation::none);
    }
    add(Method::block, 4, 0, 0, analysis::Activation::none);
    add(Method::vector, 1, 0, 3, analysis::Activation::silu);
}
BENCHMARK(beyond_plain)->ArgNames({"method", "R", "rho%", "W", "f"})->Apply(beyond_points);

/// Weighted trials of the conditional sampler.
void conditional(benchmark::State& state) {
    analysis::RoutingPoint point;
    point.head_dim = 1024;
    point.block_size = 16;
    point.candidates = 1024;
    const ConditionalSampler conditional_sampler(point, 1);
    std::uint64_t next = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(conditional_sampler.sums(next, 8192));
        next += 8192;
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(next));
}
BENCHMARK(conditional);

/// The tables a run begins with.
void conditional_tables(benchmark::State& state) {
    analysis::RoutingPoint point;
    point.head_dim = 1024;
    point.block_size = 16;
    point.candidates = 1024;
    for (auto _ : state) {
        benchmark::DoNotOptimize(ConditionalSampler(point, 1));
    }
}
BENCHMARK(conditional_tables)->Unit(benchmark::kMillisecond);

void threshold_tables(benchmark::State& state) {
    analysis::RoutingPoint point;
    point.block_size = 16;
    point.candidates = 1024;
    for (auto _ : state) {
        benchmark::DoNotOptimize(make_sampler(Method::threshold, {point, PhiloxKey{1, 2}, &default_loops()}));
    }
}
BENCHMARK(threshold_tables)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace mobalab::sim

BENCHMARK_MAIN();
