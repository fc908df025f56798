// The CUDA engine draws the CPU's trials. Skipped with a message where there is no device.
#include "sim/cuda/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "sim/engine/engine.h"
#include "sim/streams/gaussian.h"
#include "tests/sim/cuda/cuda_probes.h"
#include "tests/sim/points.h"

namespace mobalab::sim {
namespace {

using analysis::Model;
using analysis::RoutingPoint;

class CudaEngine : public ::testing::Test {
protected:
    void SetUp() override {
        const std::string trouble = cuda::device_trouble();
        if (!trouble.empty()) {
            GTEST_SKIP() << trouble;
        }
    }
};

TEST_F(CudaEngine, words_are_those_of_curand) {
    for (const PhiloxKey key : {PhiloxKey{0, 0}, PhiloxKey{0xdeadbeef, 0xfffffffe}}) {
        for (const std::uint64_t subsequence : {std::uint64_t{0}, std::uint64_t{0xfedcba9876543210}}) {
            for (const std::uint64_t draw : {std::uint64_t{0}, std::uint64_t{0xfffffffe}, (std::uint64_t{1} << 48U) + 5,
                                             std::uint64_t{1} << 61U}) {
                const auto words = testing::curand_words(key.as_curand_seed(), subsequence, 4 * draw, 12);
                for (std::uint64_t i = 0; i < 12; ++i) {
                    ASSERT_EQ(words[i], philox_block(key, subsequence, draw + i / 4)[i % 4])
                        << "draw " << draw << ", word " << i;
                }
                const auto later = testing::curand_words(key.as_curand_seed(), subsequence, 4 * draw + 3, 2);
                EXPECT_EQ(later[0], words[3]);
                EXPECT_EQ(later[1], words[4]);
            }
        }
    }
}

TEST_F(CudaEngine, square_root_is_right_for_every_float_it_may_see) {
    const testing::SqrtCheck check = testing::check_device_sqrt(1e-7F, 1e3F);
    EXPECT_EQ(check.wrong, 0U);
    EXPECT_GT(check.tried, 250'000'000U);
}

TEST_F(CudaEngine, gaussians_have_the_bits_of_the_cpu) {
    constexpr std::uint64_t kFirst = (std::uint64_t{1} << 32U) - 1000;
    for (const std::int64_t count : {1, 7, 1 << 20}) {
        std::vector<float> host(static_cast<std::size_t>(count));
        fill_gaussian(host, PhiloxKey{7, 8}, 9, kFirst);
        EXPECT_EQ(testing::device_gaussians(count, PhiloxKey{7, 8}, 9, kFirst), host) << count;
    }
}

float rounded_to_bf16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    return std::bit_cast<float>((bits + 0x7fffU + ((bits >> 16U) & 1U)) & 0xffff0000U);
}

// Keys of a probe: numbers beyond 2^32 coordinates, a last thread block that is not full.
TEST_F(CudaEngine, unit_rows_have_the_bits_of_the_cpu) {
    constexpr std::int64_t kFirst = (std::int64_t{1} << 30U) - 5;
    for (const std::int64_t d : {4, 20, 32, 64, 96, 128, 256}) {
        for (const std::int64_t count : {1, 63, 1000}) {
            const UnitRows rows{.head_dim = d, .key = {7, 8}, .subsequence = 9};
            const auto size = static_cast<std::size_t>(count * d);
            std::vector<float> host(size);
            fill_unit_rows(rows, kFirst, host);
            const testing::DeviceRows device = testing::device_unit_rows(rows, kFirst, count);
            EXPECT_EQ(device.fp32, host) << d << " " << count;
            for (std::size_t i = 0; i < size; ++i) {
                const auto mirrored = (size / static_cast<std::size_t>(d) - 1 - i / static_cast<std::size_t>(d)) *
                                          static_cast<std::size_t>(d) +
                                      i % static_cast<std::size_t>(d);
                ASSERT_EQ(device.reversed[mirrored], host[i]);
                ASSERT_EQ(device.bf16[i], rounded_to_bf16(host[i]));
                ASSERT_NEAR(device.fp16[i], host[i], 0x1p-25F + 0x1p-11F * std::abs(host[i]));
            }
            const UnitRows other{.head_dim = d, .key = {7, 8}, .subsequence = 10};
            EXPECT_NE(testing::device_unit_rows(other, kFirst, count).fp32, host);
        }
    }
}

TEST_F(CudaEngine, needle_queries_have_the_bits_of_the_cpu) {
    for (const std::int64_t d : {32, 64, 96, 128, 256}) {
        for (const std::int64_t m : {1, 2, 4, 13, 31}) {
            // About half of the clusters of several keys can be: mu^T G^-1 mu is some |mu|^2 d / (d - m).
            const double room = std::sqrt(1.0 - static_cast<double>(m) / static_cast<double>(d));
            const double others = m > 1 ? std::sqrt(0.19 / static_cast<double>(m - 1)) : 0.0;
            NeedleQueries recipe{.keys = {.head_dim = d, .key = {1, 2}, .subsequence = 3},
                                 .noise = {.head_dim = d, .key = {4, 5}, .subsequence = 6},
                                 .cluster_size = m,
                                 .mu_signal = 0.9 * room,
                                 .mu_cluster = others * room,
                                 .slots = {}};
            constexpr std::int64_t kCount = 500;
            for (std::int64_t i = 0; i < kCount * m; ++i) {
                recipe.slots.push_back(i * 7919 % 524287);
            }
            std::vector<float> host(static_cast<std::size_t>(kCount * d));
            std::vector<std::uint8_t> feasible(kCount);
            build_needle_queries(recipe, host, feasible);
            const auto kept = std::count(feasible.begin(), feasible.end(), 1);
            EXPECT_TRUE(m == 1 ? kept == kCount : kCount / 8 < kept && kept < kCount) << kept;
            for (const std::int64_t at_once : {kCount, std::int64_t{77}}) {
                const testing::DeviceQueries device = testing::device_needle_queries(recipe, at_once);
                EXPECT_EQ(device.feasible, feasible) << d << " " << m;
                EXPECT_EQ(device.queries, host) << d << " " << m;
            }
        }
    }
}

struct Shape {
    std::int64_t head_dim, block_size, candidates, topk, cluster_size;
    double mu_signal, mu_cluster;
    std::uint64_t trials;
};

RoutingPoint point_of(Model model, const Shape& s) {
    return testing::point_of(model, s.head_dim, s.block_size, s.candidates, s.topk, s.cluster_size, s.mu_signal,
                             s.mu_cluster);
}

// Tiles of 1024 tokens: blocks that end inside, at and beyond a tile, one candidate, one key a block, every remainder
// of head_dim by 4, scores that tie (head_dim beyond the 2^-30 step).
const std::vector<Shape> kShapes = {
    {64, 16, 64, 8, 1, 0.9, 0.0, 3000},  {64, 16, 1024, 8, 3, 0.9, 0.2, 200}, {2, 1, 40, 3, 1, 0.9, 0.0, 3000},
    {3, 7, 333, 4, 2, 0.6, 0.3, 1000},   {33, 100, 31, 4, 1, 0.8, 0.0, 1000}, {66, 1500, 3, 2, 40, 0.5, 0.1, 300},
    {128, 1024, 5, 2, 1, 0.9, 0.0, 100}, {7, 5, 1, 2, 5, 0.3, 0.0, 100},      {130, 64, 700, 8, 64, 0.05, 0.04, 20},
};

TEST_F(CudaEngine, counts_are_those_of_the_cpu) {
    for (const Method method : {Method::vector, Method::affinity, Method::threshold}) {
        std::uint64_t misses = 0;
        for (const Shape& shape : kShapes) {
            const RoutingPoint point = point_of(Model::sphere, shape);
            Budget budget;
            budget.method = method;
            budget.seed = 3;
            budget.stop.max_trials = method == Method::threshold ? 50 * shape.trials : shape.trials;
            const TrialStats cpu = simulate(point, budget).progress.stats;
            budget.device = Device::cuda;
            EXPECT_EQ(simulate(point, budget).progress.stats, cpu)
                << to_string(method) << ", " << analysis::canonical_text(point);
            misses += cpu.misses;
        }
        EXPECT_GT(misses, 0U);
    }
}

// Everything beyond the paper's setting, on the same shapes: several needles and every goal, correlated keys, both
// convolutions; widths beyond a block's length are cut to it.
TEST_F(CudaEngine, counts_beyond_the_plain_model_are_those_of_the_cpu) {
    struct Beyond {
        std::int64_t needles;
        analysis::Goal goal;
        double key_correlation;
        std::int64_t key_conv;
        double tap;
        analysis::Activation activation;
    };
    using analysis::Activation;
    using analysis::Goal;
    const std::vector<Beyond> beyond = {
        {3, Goal::each, 0.0, 0, 1.0, Activation::none},  {2, Goal::any, 0.2, 0, 1.0, Activation::none},
        {1, Goal::each, 0.0, 3, -0.5, Activation::none}, {1, Goal::each, 0.0, 8, 1.0, Activation::silu},
        {4, Goal::all, 0.1, 5, 2.0, Activation::silu},   {5, Goal::each, 0.7, 2, 1.0, Activation::none}};
    std::uint64_t misses = 0;
    std::uint64_t hits = 0;
    for (const Shape& shape : kShapes) {
        for (const Beyond& kind : beyond) {
            for (const Method method : {Method::vector, Method::affinity}) {
                RoutingPoint point = point_of(Model::sphere, shape);
                point.needles = std::min(kind.needles, point.candidates);
                point.goal = kind.goal;
                point.key_correlation = point.head_dim > 2 ? kind.key_correlation : 0.0;
                point.key_conv = std::min(kind.key_conv, point.block_size);
                point.key_conv_tap = kind.tap;
                point.key_conv_activation = kind.activation;
                if (method == Method::affinity && point.key_conv > 0 && kind.activation == Activation::silu) {
                    continue;
                }
                Budget budget;
                budget.method = method;
                budget.seed = 4;
                budget.stop.max_trials = std::max<std::uint64_t>(10, shape.trials / 20);
                const TrialStats cpu = simulate(point, budget).progress.stats;
                budget.device = Device::cuda;
                EXPECT_EQ(simulate(point, budget).progress.stats, cpu)
                    << to_string(method) << ", " << analysis::canonical_text(point);
                misses += cpu.misses;
                hits += cpu.trials - cpu.misses;
            }
        }
    }
    EXPECT_GT(misses, 100U);
    EXPECT_GT(hits, 100U);
}

// Every scorer that looks at keys on the same shapes, and on blocks of odd length, beyond a tile, and as long as a
// kernel takes: sub-blocks that end inside, at and beyond a tile.
TEST_F(CudaEngine, counts_of_scorers_are_those_of_the_cpu) {
    using analysis::ScorerKind;
    std::vector<Shape> shapes = kShapes;
    shapes.insert(shapes.end(), {{16, 1501, 4, 2, 5, 0.6, 0.4, 100},
                                 {12, 4096, 3, 2, 4, 0.7, 0.6, 60},
                                 {9, 3075, 5, 3, 1, 0.9, 0.0, 100},
                                 {1024, 16, 40, 4, 1, 0.2, 0.0, 40}});
    std::uint64_t misses = 0;
    std::uint64_t hits = 0;
    for (const Shape& shape : shapes) {
        std::vector<analysis::Scorer> scorers = {{ScorerKind::quest, 1}, {ScorerKind::max, 1}};
        for (std::int64_t r = 1; r <= shape.block_size; ++r) {
            if (shape.block_size % r == 0 && (r <= 5 || r == 64 || r == 1025 || r == shape.block_size)) {
                scorers.push_back({ScorerKind::submean, r});
            }
        }
        for (const analysis::Scorer& scorer : scorers) {
            for (const Method method : {Method::vector, Method::affinity}) {
                RoutingPoint point = point_of(Model::sphere, shape);
                point.scorer = scorer;
                if (!method_trouble(point, method).empty()) {
                    continue;
                }
                Budget budget;
                budget.method = method;
                budget.seed = 5;
                budget.stop.max_trials = std::max<std::uint64_t>(10, shape.trials / 5);
                const TrialStats cpu = simulate(point, budget).progress.stats;
                budget.device = Device::cuda;
                EXPECT_EQ(simulate(point, budget).progress.stats, cpu)
                    << to_string(method) << ", " << analysis::canonical_text(point);
                misses += cpu.misses;
                hits += cpu.trials - cpu.misses;
            }
        }
    }
    EXPECT_GT(misses, 100U);
    EXPECT_GT(hits, 100U);
}

// A long point whose pieces other ranks compute as well, each on a device: here two that share one.
TEST_F(CudaEngine, pieces_computed_elsewhere_count_alike) {
    const RoutingPoint point = point_of(Model::sphere, {64, 16, 256, 8, 1, 0.7, 0.0, 0});
    for (const StopRule& rule :
         {StopRule{.max_trials = 3'000'000}, StopRule{.max_trials = 3'000'000, .max_misses = 400'000},
          StopRule{.max_trials = 3'000'000, .target_relative_error = 0.0005}}) {
        Budget budget;
        budget.stop = rule;
        budget.device = Device::cuda;
        const SimulationResult alone = simulate(point, budget);
        const ChunkComputer first(point, budget);
        const ChunkComputer second(point, budget);
        std::atomic<int> asked = 0;
        std::atomic<int> computed = 0;
        budget.helpers = {4, [&](TrialRange range) -> std::optional<std::vector<TrialStats>> {
                              const int number = asked++;
                              if (number % 5 == 4) {
                                  return std::nullopt;  // no helper is free
                              }
                              ++computed;
                              return number % 2 == 0 ? first(range) : second(range);
                          }};
        const SimulationResult shared = simulate(point, budget);
        EXPECT_EQ(shared.progress.stats, alone.progress.stats);
        EXPECT_EQ(shared.reason, alone.reason);
        EXPECT_GT(computed, 4);
        if (rule.max_misses > 0) {  // a CPU would stop at the same chunk
            EXPECT_EQ(shared.reason, StopReason::misses);
            budget.device = Device::cpu;
            budget.helpers = {};
            EXPECT_EQ(simulate(point, budget).progress.stats, shared.progress.stats);
        }
    }
}

TEST_F(CudaEngine, normal_models_have_the_threshold_method) {
    for (const Model model : {Model::gaussian, Model::gaussian_fixed}) {
        const RoutingPoint point = point_of(model, {64, 16, 511, 8, 1, 0.9, 0.0, 0});
        Budget budget;
        budget.method = Method::threshold;
        budget.stop.max_trials = 100'000;
        const TrialStats cpu = simulate(point, budget).progress.stats;
        budget.device = Device::cuda;
        EXPECT_EQ(simulate(point, budget).progress.stats, cpu);
    }
}

TEST_F(CudaEngine, ties_go_to_the_higher_block_index_as_on_the_cpu) {
    RoutingPoint point = point_of(Model::sphere, {std::int64_t{4} << 60U, 1, 3, 2, 1, 0.0, 0.0, 0});
    Budget budget;
    budget.stop.max_trials = 20'000;
    TrialStats cpu = simulate(point, budget).progress.stats;
    budget.device = Device::cuda;
    EXPECT_EQ(simulate(point, budget).progress.stats, cpu);

    budget.device = Device::cpu;
    point.block_size = 2;
    point.scorer = {analysis::ScorerKind::submean, 2};
    cpu = simulate(point, budget).progress.stats;
    budget.device = Device::cuda;
    EXPECT_EQ(simulate(point, budget).progress.stats, cpu);

    budget.device = Device::cpu;
    budget.stop.max_trials = 500;
    point.head_dim = 2;  // a circle, whose extremes are its ends to the last bit
    point.block_size = 4096;
    point.scorer = {analysis::ScorerKind::quest, 1};
    cpu = simulate(point, budget).progress.stats;
    budget.device = Device::cuda;
    EXPECT_EQ(simulate(point, budget).progress.stats, cpu);
}

TEST_F(CudaEngine, stop_rules_end_at_the_chunk_the_cpu_ends_at) {
    const RoutingPoint point = point_of(Model::sphere, {64, 16, 64, 8, 1, 0.9, 0.0, 0});
    for (const Method method : {Method::affinity, Method::threshold}) {
        Budget budget;
        budget.method = method;
        budget.stop.max_trials = 10'000'000;
        budget.stop.max_misses = 20'000;
        const SimulationResult cpu = simulate(point, budget);
        budget.device = Device::cuda;
        const SimulationResult device = simulate(point, budget);
        EXPECT_EQ(device.progress.stats, cpu.progress.stats);
        EXPECT_EQ(device.progress.chunks, cpu.progress.chunks);
        EXPECT_EQ(device.reason, StopReason::misses);
    }
}

TEST_F(CudaEngine, a_run_begun_on_the_cpu_goes_on_on_the_device) {
    const RoutingPoint point = point_of(Model::sphere, {64, 16, 64, 8, 1, 0.9, 0.0, 0});
    Budget budget;
    budget.method = Method::threshold;
    budget.stop.max_trials = 300'001;
    const Progress first = simulate(point, budget).progress;
    budget.stop.max_trials = 1'000'000;
    const TrialStats whole = simulate(point, budget).progress.stats;
    budget.device = Device::cuda;
    EXPECT_EQ(simulate(point, budget, first).progress.stats, whole);
}

TEST(CudaEngineInput, methods_without_a_kernel_are_refused) {
    EXPECT_FALSE(cuda::kernel_trouble(RoutingPoint{}, Method::block).empty());
    EXPECT_FALSE(cuda::kernel_trouble(RoutingPoint{}, Method::exact).empty());
    Budget budget;
    budget.device = Device::cuda;
    budget.method = Method::block;
    EXPECT_THROW(simulate(RoutingPoint{}, budget), analysis::InputError);
}

TEST(CudaEngineInput, scorers_without_a_kernel_are_refused) {
    using analysis::ScorerKind;
    RoutingPoint point;
    point.scorer = {ScorerKind::random, 1};
    EXPECT_THAT(cuda::kernel_trouble(point, Method::block), ::testing::HasSubstr("scorer random has no CUDA kernel"));
    point.scorer = {ScorerKind::submean, 4};
    EXPECT_EQ(cuda::kernel_trouble(point, Method::affinity), "");
    point.scorer = {ScorerKind::quest, 1};
    EXPECT_EQ(cuda::kernel_trouble(point, Method::vector), "");
    point.block_size = 5000;
    EXPECT_THAT(cuda::kernel_trouble(point, Method::vector),
                ::testing::HasSubstr("nearest valid values are 64 and 4096"));
}

}  // namespace
}  // namespace mobalab::sim
