// What the engine promises whatever the sampler: counts that depend on (seed, point, stop rule) alone.
#include "sim/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "sim/samplers/sampler.h"
#include "sim/streams/philox.h"
#include "tests/sim/points.h"
#include "tests/sim/statistics.h"

namespace mobalab::sim {
namespace {

using analysis::InputError;
using analysis::Model;
using analysis::RoutingPoint;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

RoutingPoint small_point(Model model) {
    return testing::point_of(model, 32, 8, 40, 4, 2, 0.8, 0.4);
}

Budget budget_of(std::uint64_t trials, int threads = 1) {
    Budget budget;
    budget.stop.max_trials = trials;
    budget.threads = threads;
    budget.seed = 5;
    return budget;
}

class EveryModel : public ::testing::TestWithParam<Model> {};
INSTANTIATE_TEST_SUITE_P(models, EveryModel,
                         ::testing::Values(Model::gaussian, Model::gaussian_fixed, Model::sphere, Model::vector),
                         [](const auto& test) { return "model" + std::to_string(static_cast<int>(test.param)); });

TEST_P(EveryModel, counts_do_not_depend_on_threads) {
    const RoutingPoint point = small_point(GetParam());
    const std::uint64_t trials = 10 * chunk_trials(point) + 1;
    const SimulationResult one = simulate(point, budget_of(trials, 1));
    EXPECT_EQ(one.progress.stats.trials, trials);
    EXPECT_EQ(one.progress.chunks, 11U);
    EXPECT_EQ(one.reason, StopReason::trials);
    EXPECT_GT(one.progress.stats.misses, 0U);
    EXPECT_NO_THROW(one.progress.stats.check());
    for (const int threads : {2, 7, 0}) {
        const SimulationResult other = simulate(point, budget_of(trials, threads));
        EXPECT_EQ(other.progress.stats, one.progress.stats) << threads << " threads";
        EXPECT_EQ(other.progress.chunks, one.progress.chunks);
    }
}

TEST_P(EveryModel, interrupted_after_any_chunk_and_resumed_is_the_uninterrupted_run) {
    const RoutingPoint point = small_point(GetParam());
    const Budget budget = budget_of(5 * chunk_trials(point) + 3, 2);
    const SimulationResult whole = simulate(point, budget);
    for (std::uint64_t stop_after = 1; stop_after <= 6; ++stop_after) {
        const SimulationResult first =
            simulate(point, budget, {}, [&](const Progress& progress) { return progress.chunks < stop_after; });
        EXPECT_EQ(first.progress.chunks, stop_after);
        EXPECT_EQ(first.reason, stop_after < 6 ? StopReason::interrupted : StopReason::trials);
        const SimulationResult second = simulate(point, budget, first.progress);
        EXPECT_EQ(second.progress.stats, whole.progress.stats) << "interrupted after " << stop_after;
        EXPECT_EQ(second.progress.chunks, whole.progress.chunks);
        EXPECT_EQ(second.reason, whole.reason);
        EXPECT_GE(second.progress.seconds, first.progress.seconds);
    }
}

TEST_P(EveryModel, a_finished_run_goes_on_with_a_larger_budget) {
    const RoutingPoint point = small_point(GetParam());
    const std::uint64_t chunk = chunk_trials(point);
    const SimulationResult whole = simulate(point, budget_of(3 * chunk + 7));
    for (const std::uint64_t first_trials : {std::uint64_t{1}, chunk - 1, chunk, chunk + 1, 3 * chunk + 6}) {
        const SimulationResult first = simulate(point, budget_of(first_trials));
        EXPECT_EQ(first.progress.stats.trials, first_trials);
        const SimulationResult second = simulate(point, budget_of(3 * chunk + 7), first.progress);
        EXPECT_EQ(second.progress.stats, whole.progress.stats) << "first " << first_trials << " trials";
        EXPECT_EQ(second.progress.chunks, whole.progress.chunks);
    }
}

TEST_P(EveryModel, another_seed_or_point_gives_other_trials) {
    const RoutingPoint point = small_point(GetParam());
    const std::uint64_t trials = 2 * chunk_trials(point);
    Budget budget = budget_of(trials);
    const TrialStats first = simulate(point, budget).progress.stats;
    budget.seed = 6;
    EXPECT_NE(simulate(point, budget).progress.stats, first);
}

TEST_P(EveryModel, topk_and_the_way_of_asking_do_not_change_the_trials) {
    RoutingPoint point = small_point(GetParam());
    const std::uint64_t chunk = chunk_trials(point);
    const Budget budget = budget_of(3 * chunk);
    const TrialStats reference = simulate(point, budget).progress.stats;
    for (const std::int64_t topk : {1, 2, 9, 40, 41, 512}) {
        point.topk = topk;
        point.seq_len = 328;
        EXPECT_EQ(chunk_trials(point), chunk);
        const TrialStats stats = simulate(point, budget).progress.stats;
        EXPECT_EQ(stats.rank_histogram, reference.rank_histogram);
        std::uint64_t misses = 0;
        for (std::size_t rank = 0; rank < reference.rank_histogram.size(); ++rank) {
            misses += static_cast<std::int64_t>(rank) >= topk - 1 ? reference.rank_histogram[rank] : 0;
        }
        EXPECT_EQ(stats.misses, misses) << "topk " << topk;
    }
}

// Bits, not statistics: these counts were computed with AVX-512, with AVX2 and with plain x86-64.
TEST(Engine, counts_are_pinned) {
    const std::array<std::pair<Model, std::uint64_t>, 4> pinned = {{
        {Model::gaussian, 14587071233408191977U},
        {Model::gaussian_fixed, 11730154604392773408U},
        {Model::sphere, 12800099538781706170U},
        {Model::vector, 276629929228174882U},
    }};
    for (const auto& [model, hash] : pinned) {
        const TrialStats stats = simulate(small_point(model), budget_of(2000)).progress.stats;
        EXPECT_EQ(testing::hash_of(std::span<const std::uint64_t>(stats.rank_histogram)), hash) << to_string(model);
    }
}

TEST(Engine, observer_sees_every_chunk_in_order_and_can_interrupt) {
    const RoutingPoint point = small_point(Model::sphere);
    const std::uint64_t chunk = chunk_trials(point);
    std::vector<Progress> seen;
    const SimulationResult result = simulate(point, budget_of(100 * chunk, 7), {}, [&](const Progress& progress) {
        seen.push_back(progress);
        return seen.size() < 20;
    });
    EXPECT_EQ(result.reason, StopReason::interrupted);
    ASSERT_EQ(seen.size(), 20U);
    for (std::size_t i = 0; i < seen.size(); ++i) {
        EXPECT_EQ(seen[i].chunks, i + 1);
        EXPECT_EQ(seen[i].stats.trials, (i + 1) * chunk);
        EXPECT_NO_THROW(seen[i].stats.check());
    }
    EXPECT_EQ(result.progress.stats, seen.back().stats) << "chunks computed ahead must be dropped";
}

TEST(Engine, an_exception_of_the_observer_reaches_the_caller) {
    const auto fail = [](const Progress&) -> bool { throw std::runtime_error("disk full"); };
    EXPECT_THROW(simulate(small_point(Model::sphere), budget_of(100'000, 2), {}, fail), std::runtime_error);
}

class StopRules : public ::testing::Test {
protected:
    RoutingPoint point = small_point(Model::sphere);
    std::uint64_t chunk = chunk_trials(point);

    /// Progress after each of the first `chunks` chunks.
    std::vector<Progress> history(std::uint64_t chunks) {
        std::vector<Progress> seen;
        simulate(point, budget_of(chunks * chunk), {}, [&](const Progress& progress) {
            seen.push_back(progress);
            return true;
        });
        return seen;
    }

    void expect_stops_at(const StopRule& stop, const Progress& expected, StopReason reason) {
        for (const int threads : {1, 2, 7}) {
            Budget budget = budget_of(0, threads);
            budget.stop = stop;
            const SimulationResult result = simulate(point, budget);
            EXPECT_EQ(result.progress.chunks, expected.chunks) << threads << " threads";
            EXPECT_EQ(result.progress.stats, expected.stats);
            EXPECT_EQ(result.reason, reason);
        }
    }
};

TEST_F(StopRules, trials_are_cut_exactly) {
    for (const std::uint64_t trials : {std::uint64_t{1}, chunk - 1, chunk, chunk + 1}) {
        const SimulationResult result = simulate(point, budget_of(trials, 7));
        EXPECT_EQ(result.progress.stats.trials, trials);
        EXPECT_EQ(result.progress.chunks, (trials + chunk - 1) / chunk);
        EXPECT_EQ(result.reason, StopReason::trials);
    }
}

TEST_F(StopRules, misses_stop_at_the_first_chunk_that_has_them) {
    const auto seen = history(8);
    StopRule stop;
    stop.max_misses = seen[3].stats.misses;
    ASSERT_LT(seen[2].stats.misses, stop.max_misses);
    expect_stops_at(stop, seen[3], StopReason::misses);
    stop.max_misses += 1;
    ASSERT_GE(seen[4].stats.misses, stop.max_misses);
    expect_stops_at(stop, seen[4], StopReason::misses);
}

TEST_F(StopRules, relative_error_stops_at_the_first_chunk_that_has_it) {
    const auto seen = history(8);
    const auto error = [](const TrialStats& stats) {
        const double p = static_cast<double>(stats.misses) / static_cast<double>(stats.trials);
        return std::sqrt((1 - p) / (p * static_cast<double>(stats.trials)));
    };
    StopRule stop;
    stop.target_relative_error = 0.5 * (error(seen[4].stats) + error(seen[5].stats));
    expect_stops_at(stop, seen[5], StopReason::relative_error);
}

// Chunks of points as large as this are a few trials, which all miss: their spread of zero is no precision.
TEST_F(StopRules, relative_error_without_a_hit_is_that_of_one) {
    const RoutingPoint hopeless{.head_dim = 16, .block_size = 16, .candidates = 20'000, .topk = 2, .mu_signal = 0.0};
    Budget budget;
    budget.method = Method::affinity;
    budget.stop.max_trials = 4000;
    budget.stop.target_relative_error = 0.01;
    const SimulationResult result = simulate(hopeless, budget);
    ASSERT_LT(chunk_trials(hopeless, Method::affinity), 50U);
    EXPECT_EQ(result.reason, StopReason::relative_error);
    EXPECT_GE(result.progress.stats.trials, 100U) << "1 / trials is 0.01 there";
}

TEST_F(StopRules, relative_error_needs_a_miss) {
    point.topk = 512;  // never a miss
    StopRule stop;
    stop.max_trials = 4 * chunk;
    stop.target_relative_error = 1e9;
    Budget budget = budget_of(0);
    budget.stop = stop;
    EXPECT_EQ(simulate(point, budget).reason, StopReason::trials);
}

TEST_F(StopRules, seconds_stop_a_run_and_count_earlier_runs) {
    Budget budget = budget_of(std::numeric_limits<std::uint64_t>::max(), 2);
    budget.stop.max_seconds = 0.05;
    const SimulationResult first = simulate(point, budget);
    EXPECT_EQ(first.reason, StopReason::seconds);
    EXPECT_GE(first.progress.seconds, 0.05);
    EXPECT_EQ(first.progress.stats.trials, first.progress.chunks * chunk);
    const SimulationResult second = simulate(point, budget, first.progress);
    EXPECT_EQ(second.progress.stats, first.progress.stats);
    EXPECT_EQ(second.reason, StopReason::seconds);
}

TEST_F(StopRules, a_finished_run_resumed_does_nothing) {
    Budget budget = budget_of(100 * chunk);
    budget.stop.max_misses = 10;
    const SimulationResult first = simulate(point, budget);
    const SimulationResult second =
        simulate(point, budget, first.progress, [](const Progress&) -> bool { throw std::logic_error("ran a chunk"); });
    EXPECT_EQ(second.progress.stats, first.progress.stats);
    EXPECT_EQ(second.reason, StopReason::misses);
}

// A cut chunk ends between chunk boundaries, where an uninterrupted run does not look at its rules.
TEST_F(StopRules, resuming_a_cut_chunk_stops_where_the_uninterrupted_run_does) {
    const SimulationResult cut = simulate(point, budget_of(chunk / 2));
    Budget budget = budget_of(100 * chunk);
    budget.stop.max_misses = cut.progress.stats.misses;
    ASSERT_GT(budget.stop.max_misses, 0U);
    EXPECT_EQ(simulate(point, budget, cut.progress).progress.stats, simulate(point, budget).progress.stats);
}

TEST(Engine, bad_budgets_name_value_rule_and_choice) {
    const RoutingPoint point = small_point(Model::sphere);
    const auto run = [&](const Budget& budget) { return [&point, budget] { simulate(point, budget); }; };
    EXPECT_THAT(run(budget_of(0)), ThrowsMessage<InputError>(HasSubstr("max_trials = 0: must be at least 1")));
    EXPECT_THAT(run(budget_of(1, -1)), ThrowsMessage<InputError>(HasSubstr("threads = -1: must be in [0, 4096]")));
    EXPECT_THAT(run(budget_of(1, 5000)), ThrowsMessage<InputError>(HasSubstr("nearest valid value is 4096")));
    Budget budget = budget_of(1);
    budget.stop.target_relative_error = -0.1;
    EXPECT_THAT(run(budget), ThrowsMessage<InputError>(HasSubstr("target_relative_error = -0.1")));
    budget = budget_of(1);
    budget.stop.max_seconds = NAN;
    EXPECT_THAT(run(budget), ThrowsMessage<InputError>(HasSubstr("max_seconds = nan")));
}

TEST(Engine, bad_points_are_refused) {
    RoutingPoint point = small_point(Model::sphere);
    point.head_dim = 1;
    EXPECT_THROW(simulate(point, budget_of(1)), InputError);
    EXPECT_THROW(chunk_trials(point), InputError);
    point.head_dim = 64;
    point.block_size = std::int64_t{1} << 33U;
    EXPECT_THAT([&] { simulate(point, budget_of(1)); }, ThrowsMessage<InputError>(HasSubstr("at most 4294967296")));
    point = small_point(Model::vector);
    point.block_size = std::int64_t{1} << 40U;
    EXPECT_THAT([&] { simulate(point, budget_of(1)); }, ThrowsMessage<InputError>(HasSubstr("gaussian-fixed")));
}

TEST(Engine, checkpoints_of_another_point_are_refused) {
    const RoutingPoint point = small_point(Model::sphere);
    const Progress progress = simulate(point, budget_of(3 * chunk_trials(point))).progress;
    const auto resume = [&](const RoutingPoint& other, const Progress& start) {
        return [=] { simulate(other, budget_of(1'000'000), start); };
    };
    RoutingPoint larger = point;
    larger.block_size = 100;
    EXPECT_THAT(resume(larger, progress), ThrowsMessage<InputError>(HasSubstr("cannot resume from 3 chunks")));
    Progress bins = progress;
    bins.stats.rank_histogram.push_back(0);
    EXPECT_THAT(resume(point, bins), ThrowsMessage<InputError>(HasSubstr("rank histogram of 41 bins")));
    RoutingPoint other_topk = point;
    other_topk.topk += 1;
    EXPECT_THAT(resume(other_topk, progress), ThrowsMessage<InputError>(HasSubstr("at topk = 5 the ranks make it")));
    Progress broken = progress;
    broken.stats.misses = broken.stats.trials + 1;
    EXPECT_THROW(resume(point, broken)(), std::logic_error);
}

TEST(Engine, every_stop_reason_has_a_name) {
    std::set<std::string_view> names;
    for (const auto reason : {StopReason::trials, StopReason::misses, StopReason::relative_error, StopReason::seconds,
                              StopReason::interrupted, StopReason::exact}) {
        names.insert(to_string(reason));
    }
    EXPECT_EQ(names.size(), 6U);
}

TEST(StreamIdentity, leaves_out_topk_and_seq_len_alone) {
    const RoutingPoint point = small_point(Model::sphere);
    RoutingPoint same = point;
    same.topk = 17;
    same.seq_len = 4096;
    EXPECT_EQ(stream_identity(same, Method::affinity), stream_identity(point, Method::affinity));
    std::set<std::uint64_t> identities = {stream_identity(point, Method::affinity)};
    const auto changed = [&](auto change) {
        RoutingPoint other = point;
        change(other);
        return identities.insert(stream_identity(other, Method::affinity)).second;
    };
    EXPECT_TRUE(changed([](RoutingPoint& p) { p.model = Model::vector; }));
    EXPECT_TRUE(changed([](RoutingPoint& p) { p.head_dim += 1; }));
    EXPECT_TRUE(changed([](RoutingPoint& p) { p.block_size += 1; }));
    EXPECT_TRUE(changed([](RoutingPoint& p) { p.candidates += 1; }));
    EXPECT_TRUE(changed([](RoutingPoint& p) { p.cluster_size += 1; }));
    EXPECT_TRUE(changed([](RoutingPoint& p) { p.mu_signal += 1e-16; }));
    EXPECT_TRUE(changed([](RoutingPoint& p) { p.mu_noise += 1e-16; }));
    EXPECT_TRUE(changed([](RoutingPoint& p) { p.mu_cluster += 1e-16; }));
}

// Seeds s and s + 1 must not be shifted copies of each other: no block of one stream appears in the other.
TEST(Streams, neighbouring_seeds_share_no_block) {
    std::set<std::array<std::uint32_t, 4>> blocks;
    constexpr std::uint64_t kDraws = 1 << 12;
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
        const PhiloxKey key = stream_key(seed, 1);
        for (std::uint64_t draw = 0; draw < kDraws; ++draw) {
            blocks.insert(philox_block(key, 0, draw));
            blocks.insert(philox_block(key, 1, draw));
        }
    }
    EXPECT_EQ(blocks.size(), kDraws * 2 * 8);
}

}  // namespace
}  // namespace mobalab::sim
