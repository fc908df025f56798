/// Laws of the scorers beyond mean: random and submean, exact; quest and max, approximate.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "analysis/binomial_interval.h"
#include "analysis/hit_probability.h"
#include "analysis/hit_problem.h"
#include "analysis/inverse.h"
#include "analysis/limits.h"
#include "analysis/log_space.h"
#include "analysis/miss_curve.h"
#include "analysis/scorer_approximation.h"
#include "analysis/sub_block_scores.h"
#include "tests/analysis/sub_block_reference.h"
#include "tests/sim/statistics.h"

namespace mobalab::analysis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// The point at which the theory notes compare scorers.
RoutingPoint noted(const char* scorer) {
    return {.head_dim = 64,
            .block_size = 16,
            .candidates = 64,
            .topk = 5,
            .mu_signal = 0.7,
            .scorer = parse_scorer(scorer)};
}

double hit(const RoutingPoint& point) {
    return exact_hit_probability(point).hit();
}

std::string refusal(const RoutingPoint& point) {
    try {
        exact_hit_probability(point);
    } catch (const InputError& error) {
        return error.what();
    }
    return "";
}

TEST(ScorerLaw, GivesTheNumbersOfTheTheoryNotes) {
    EXPECT_NEAR(hit(noted("random")), 0.0625, 1e-15);
    EXPECT_NEAR(hit(noted("mean")), 0.4282, 5e-5);
    EXPECT_EQ(hit(noted("submean-16")), 1.0);
    EXPECT_LT(exact_hit_probability(noted("submean-16")).log_miss, -60.0);
}

// ---- random
// ----------------------------------------------------------------------------------------------------------

/// Every draw of K of c blocks, of which the first R are needles.
double share_of_draws(std::int64_t candidates, std::int64_t needles, std::int64_t routed, Goal goal) {
    double met = 0.0;
    double draws = 0.0;
    for (std::uint32_t set = 0; set < 1U << static_cast<unsigned>(candidates); ++set) {
        if (std::popcount(set) != routed) continue;
        const int found = std::popcount(set & ((1U << static_cast<unsigned>(needles)) - 1U));
        draws += 1.0;
        if (goal == Goal::each) met += static_cast<double>(found) / static_cast<double>(needles);
        if (goal == Goal::any) met += found > 0 ? 1.0 : 0.0;
        if (goal == Goal::all) met += found == needles ? 1.0 : 0.0;
    }
    return met / draws;
}

TEST(RandomScorer, IsADrawOfTheBlocks) {
    for (const std::int64_t candidates : {1, 5, 12}) {
        for (std::int64_t needles = 1; needles <= candidates; ++needles) {
            for (std::int64_t routed = 0; routed <= candidates; ++routed) {
                for (const Goal goal : {Goal::each, Goal::any, Goal::all}) {
                    RoutingPoint point{.candidates = candidates, .topk = routed + 1, .needles = needles, .goal = goal};
                    point.scorer = parse_scorer("random");
                    EXPECT_NEAR(hit(point), share_of_draws(candidates, needles, routed, goal), 1e-13)
                        << canonical_text(point);
                }
            }
        }
    }
}

TEST(RandomScorer, DoesNotLookAtTheModelOrTheKeys) {
    for (const std::string& model : key_model_names()) {
        RoutingPoint point = noted("random");
        point.model = parse_model(model);
        point.key_correlation = 0.3;
        point.key_memory = definition_of(point.model).text_keys ? 4 : 0;
        if (definition_of(point.model).takes_key_conv) point.key_conv = 3;
        EXPECT_NEAR(hit(point), 0.0625, 1e-15) << model;
    }
    RoutingPoint rare{.candidates = 1'000'000, .topk = 2, .scorer = parse_scorer("random")};
    EXPECT_NEAR(exact_hit_probability(rare).log_hit, -std::log(1e6), 1e-12);
    rare.topk = 3;
    rare.needles = 2;
    rare.goal = Goal::all;
    EXPECT_NEAR(exact_hit_probability(rare).log_hit, std::log(2.0) - std::log(1e6) - std::log(999'999.0), 1e-12);
}

// ---- submean
// ---------------------------------------------------------------------------------------------------------

RoutingPoint submean(std::int64_t d, std::int64_t block_size, std::int64_t sub_blocks, std::int64_t candidates,
                     std::int64_t topk, std::int64_t cluster, double mu, double mu_cluster) {
    return {.head_dim = d,
            .block_size = block_size,
            .candidates = candidates,
            .topk = topk,
            .cluster_size = cluster,
            .mu_signal = mu,
            .mu_cluster = mu_cluster,
            .scorer = {ScorerKind::submean, sub_blocks}};
}

void expect_as_the_reference(const RoutingPoint& point) {
    SCOPED_TRACE(canonical_text(point));
    const HitProbability p = exact_hit_probability(point);
    const SubBlockReference::Answer reference = SubBlockReference(point).answer();
    ASSERT_NEAR(static_cast<double>(reference.hit + reference.miss), 1.0, 1e-11);
    if (std::min(p.log_hit, p.log_miss) == log_zero) {
        EXPECT_EQ(static_cast<double>(std::min(reference.hit, reference.miss)), 0.0);
        return;
    }
    // The smaller one relative, the larger one absolute.
    EXPECT_NEAR(p.log_hit, static_cast<double>(std::log(reference.hit)), 1e-9);
    EXPECT_NEAR(p.log_miss, static_cast<double>(std::log(reference.miss)), 1e-9);
}

/// Rough and smooth laws, clusters that fill a sub-block (m >= b), single affinities (r = B), a block that is all
/// cluster, ties of the needle with its cluster, and clusters that pull down.
TEST(SubmeanScorer, AgreesWithTheOtherIntegral) {
    const std::vector<RoutingPoint> points{
        submean(64, 16, 4, 64, 5, 1, 0.7, 0.0),  submean(16, 8, 4, 200, 2, 3, 0.9, 0.5),
        submean(3, 6, 2, 40, 3, 4, 0.8, -0.3),   submean(64, 16, 16, 64, 5, 5, 0.3, 0.3),
        submean(2, 6, 3, 10, 3, 2, 0.5, 0.25),   submean(33, 8, 2, 20, 9, 8, 0.1, -0.05),
        submean(64, 16, 16, 64, 5, 1, 0.3, 0.0), submean(16, 8, 2, 20, 4, 5, 0.6, 0.2),
        submean(2, 8, 8, 30, 2, 3, 0.6, 0.9),    submean(4, 16, 16, 200, 17, 1, 0.37, 0.0),
        submean(5, 12, 3, 100, 9, 6, 0.4, 0.4),  submean(512, 4, 2, 200, 2, 2, 0.9, 0.9),
        submean(8, 4, 4, 20, 5, 4, 0.3, 0.7),    submean(128, 32, 8, 20, 5, 3, 0.5, 0.4)};
    const std::size_t count = sim::testing::kSlower > 1 ? 5 : points.size();
    for (std::size_t i = 0; i < count; ++i) expect_as_the_reference(points[i]);
}

/// A fixed sweep, so that it cannot fail by chance.
TEST(SubmeanScorer, AgreesWithTheOtherIntegralOverASweep) {
    std::mt19937 generator(5);
    const auto pick = [&](std::initializer_list<std::int64_t> values) {
        return values.begin()[std::uniform_int_distribution<std::size_t>(0, values.size() - 1)(generator)];
    };
    const auto uniform = [&](double low, double high) {
        return std::uniform_real_distribution<double>(low, high)(generator);
    };
    const int count = sim::testing::kSlower > 1 ? 4 : 32;
    for (int i = 0; i < count; ++i) {
        const std::int64_t keys = pick({1, 1, 2, 3, 4});
        const std::int64_t sub_blocks = pick({2, 2, 3, 4, 8});
        const std::int64_t candidates = pick({2, 5, 20, 64});
        const std::int64_t topk = 1 + std::min(pick({1, 2, 4, 16}), candidates - 1);
        const std::int64_t cluster = std::min(pick({1, 1, 2, 3, 4, 6}), keys * sub_blocks);
        expect_as_the_reference(submean(pick({2, 3, 4, 6, 16, 64, 256}), keys * sub_blocks, sub_blocks, candidates,
                                        topk, cluster, uniform(0.0, 1.0), uniform(-0.3, 0.8)));
    }
}

TEST(SubmeanScorer, OfOneSubBlockIsMean) {
    for (const RoutingPoint& mean :
         {RoutingPoint{.mu_signal = 0.9}, RoutingPoint{.head_dim = 16, .block_size = 8, .candidates = 1000, .topk = 3},
          RoutingPoint{.block_size = 16, .candidates = 64, .cluster_size = 9, .mu_signal = 0.9, .mu_cluster = 0.4},
          RoutingPoint{.block_size = 16, .candidates = 64, .cluster_size = 16, .mu_signal = 0.1, .mu_cluster = 0.05},
          RoutingPoint{.head_dim = 3, .block_size = 4, .candidates = 20, .cluster_size = 2, .mu_signal = 0.5}}) {
        RoutingPoint one = mean;
        one.scorer = {ScorerKind::submean, 1};
        SCOPED_TRACE(canonical_text(mean));
        EXPECT_NEAR(exact_hit_probability(one).log_hit, exact_hit_probability(mean).log_hit, 1e-9);
        EXPECT_NEAR(exact_hit_probability(one).log_miss, exact_hit_probability(mean).log_miss, 1e-9);
    }
}

/// All keys of the block belong to the cluster: its score is the larger of two constants.
TEST(SubmeanScorer, AFullBlockHasAFixedScore) {
    for (const auto& [mu, mu_cluster] : {std::pair{0.6, 0.3}, {0.2, 0.3}}) {
        const RoutingPoint point = submean(16, 8, 4, 50, 4, 8, mu, mu_cluster);
        const double score = std::max(mu + mu_cluster, 2.0 * mu_cluster);
        const LogLaw one = affinity_sum(16, 2)->at_gaps(2.0 + score, 2.0 - score);
        const double p = -std::expm1(4.0 * std::log1p(-std::exp(one.upper)));
        double hit_by_hand = 0.0;
        double term = std::pow(1.0 - p, 49);
        for (int i = 0; i < 3; ++i) {
            hit_by_hand += term;
            term *= (49.0 - i) / (i + 1.0) * p / (1.0 - p);
        }
        EXPECT_NEAR(hit(point) / hit_by_hand, 1.0, 1e-9);
    }
}

TEST(SubmeanScorer, RisesWithTheSignalAndFallsWithRivals) {
    const RoutingPoint base = submean(64, 16, 4, 64, 5, 3, 0.5, 0.2);
    const auto log_hit = [&](auto change) {
        RoutingPoint point = base;
        change(point);
        return exact_hit_probability(point).log_hit;
    };
    double previous = -HUGE_VAL;
    for (const double mu : {0.0, 0.1, 0.3, 0.5, 0.7, 0.8}) {
        const double next = log_hit([&](RoutingPoint& p) { p.mu_signal = mu; });
        EXPECT_GT(next, previous);
        previous = next;
    }
    previous = -HUGE_VAL;
    for (const std::int64_t topk : {2, 3, 9, 33, 64}) {
        const double next = log_hit([&](RoutingPoint& p) { p.topk = topk; });
        EXPECT_GT(next, previous);
        previous = next;
    }
    previous = HUGE_VAL;
    for (const std::int64_t candidates : {5, 6, 60, 600, 60'000, 1'000'000}) {
        const double next = log_hit([&](RoutingPoint& p) { p.candidates = candidates; });
        EXPECT_LT(next, previous);
        previous = next;
    }
}

/// One signal block and its rivals drawn affinity by affinity, t = sqrt(1 - U^(2/(d-2))) cos(2 pi V).
class DrawnBlocks {
public:
    DrawnBlocks(const RoutingPoint& point, std::uint64_t seed) : point_(point), generator_(seed) {}

    bool hit() {
        std::vector<double> keys(static_cast<std::size_t>(point_.block_size));
        draw(keys);
        // The cluster: places dealt out at random, the needle first.
        std::vector<std::size_t> places(keys.size());
        std::iota(places.begin(), places.end(), 0U);
        std::shuffle(places.begin(), places.end(), generator_);
        for (std::int64_t i = 0; i < point_.cluster_size; ++i) {
            keys[places[static_cast<std::size_t>(i)]] = i == 0 ? point_.mu_signal : point_.mu_cluster;
        }
        const double signal = best(keys);
        std::int64_t above = 0;
        for (std::int64_t i = 0; i < point_.noise_blocks(); ++i) {
            draw(keys);
            above += best(keys) > signal ? 1 : 0;
        }
        return above < point_.routed();
    }

private:
    void draw(std::vector<double>& keys) {
        std::uniform_real_distribution<double> uniform(0.0, 1.0);
        for (double& t : keys) {
            const double u = 1.0 - uniform(generator_);
            const double share = std::pow(u, 2.0 / static_cast<double>(point_.head_dim - 2));
            t = std::sqrt(1.0 - share) * std::cos(2.0 * std::numbers::pi * uniform(generator_));
        }
    }

    double best(const std::vector<double>& keys) const {
        const auto length = keys.size() / static_cast<std::size_t>(point_.scorer.sub_blocks);
        double best = -HUGE_VAL;
        for (auto at = keys.begin(); at != keys.end(); at += static_cast<std::ptrdiff_t>(length)) {
            best = std::max(best, std::accumulate(at, at + static_cast<std::ptrdiff_t>(length), 0.0));
        }
        return best;
    }

    RoutingPoint point_;
    std::mt19937_64 generator_;
};

/// Fails by chance once in 1e9. Power: a hit probability wrong by 0.02 is seen but for one run in 1e6 (7.1 + 4.8
/// standard deviations of 0.0016 at 100 000 trials), sanitizers aside.
TEST(SubmeanScorer, AgreesWithSimulation) {
    std::uint64_t seed = sim::testing::test_seed();
    for (const RoutingPoint& point : {submean(16, 8, 2, 12, 3, 1, 0.6, 0.0), submean(16, 8, 4, 12, 3, 3, 0.4, 0.3),
                                      submean(8, 4, 4, 20, 4, 2, 0.5, 0.55), submean(3, 6, 2, 16, 3, 4, 0.5, -0.2)}) {
        SCOPED_TRACE(canonical_text(point));
        DrawnBlocks blocks(point, seed++);
        const std::uint64_t trials = 100'000 / sim::testing::kSlower;
        std::uint64_t hits = 0;
        for (std::uint64_t i = 0; i < trials; ++i) hits += blocks.hit() ? 1U : 0U;
        const Interval interval =
            clopper_pearson(static_cast<double>(hits), static_cast<double>(trials), sim::testing::kFalseAlarm);
        EXPECT_GE(hit(point), interval.low);
        EXPECT_LE(hit(point), interval.high);
    }
}

TEST(SubmeanScorer, RefusesWhatItsLawDoesNotCover) {
    EXPECT_THAT(refusal(submean(64, 128, 4, 64, 5, most_sub_block_cluster + 1, 0.7, 0.1)),
                AllOf(HasSubstr("cluster_size = 65"), HasSubstr("nearest valid value is 64")));
    EXPECT_EQ(refusal(submean(64, 128, 4, 64, 5, most_sub_block_cluster, 0.7, 0.1)), "");
}

// ---- quest and max
// ---------------------------------------------------------------------------------------------------

TEST(ChannelScorers, HaveNoExactProbability) {
    for (const char* scorer : {"quest", "max"}) {
        EXPECT_FALSE(has_exact_probability(noted(scorer)));
        EXPECT_THAT(refusal(noted(scorer)),
                    AllOf(HasSubstr(std::string("scorer = ") + scorer), HasSubstr("mean, submean-R, random")));
    }
}

TEST(ChannelScorers, OnlyTheyHaveTheApproximation) {
    for (const char* scorer : {"mean", "submean-4", "random"}) {
        try {
            approximate_hit_probability(noted(scorer));
            FAIL() << scorer;
        } catch (const InputError& error) {
            EXPECT_THAT(error.what(), AllOf(HasSubstr(scorer), HasSubstr("quest, max")));
        }
    }
}

/// Real unit keys, scored channel by channel.
class DrawnChannels {
public:
    DrawnChannels(const RoutingPoint& point, std::uint64_t seed)
        : point_(point), generator_(seed), d_(static_cast<std::size_t>(point.head_dim)) {}

    struct Hits {
        bool quest;
        bool max;
    };

    Hits trial() {
        const std::vector<double> q = unit_vector();
        const Scores signal = block(q, true);
        std::int64_t above_quest = 0;
        std::int64_t above_max = 0;
        for (std::int64_t i = 0; i < point_.noise_blocks(); ++i) {
            const Scores noise = block(q, false);
            above_quest += noise.quest > signal.quest ? 1 : 0;
            above_max += noise.max > signal.max ? 1 : 0;
        }
        return {above_quest < point_.routed(), above_max < point_.routed()};
    }

private:
    struct Scores {
        double quest;
        double max;
    };

    std::vector<double> unit_vector() {
        std::vector<double> x(d_);
        for (double& c : x) c = normal_(generator_);
        scale(x, 1.0 / std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0)));
        return x;
    }

    static void scale(std::vector<double>& x, double by) {
        for (double& c : x) c *= by;
    }

    /// mu q + sqrt(1 - mu^2) u, u a unit vector orthogonal to q.
    std::vector<double> token(const std::vector<double>& q, double mu) {
        std::vector<double> u = unit_vector();
        const double along = std::inner_product(u.begin(), u.end(), q.begin(), 0.0);
        for (std::size_t c = 0; c < d_; ++c) {
            u[c] = mu * q[c] + std::sqrt((1.0 - mu * mu) / (1.0 - along * along)) * (u[c] - along * q[c]);
        }
        return u;
    }

    Scores block(const std::vector<double>& q, bool signal) {
        std::vector<double> highest(d_, -2.0);
        std::vector<double> lowest(d_, 2.0);
        for (std::int64_t i = 0; i < point_.block_size; ++i) {
            const bool in_cluster = signal && i < point_.cluster_size;
            const std::vector<double> key =
                in_cluster ? token(q, i == 0 ? point_.mu_signal : point_.mu_cluster) : unit_vector();
            for (std::size_t c = 0; c < d_; ++c) {
                highest[c] = std::max(highest[c], key[c]);
                lowest[c] = std::min(lowest[c], key[c]);
            }
        }
        Scores scores{0.0, 0.0};
        for (std::size_t c = 0; c < d_; ++c) {
            scores.quest += std::max(q[c] * highest[c], q[c] * lowest[c]);
            scores.max += q[c] * highest[c];
        }
        return scores;
    }

    RoutingPoint point_;
    std::mt19937_64 generator_;
    std::normal_distribution<double> normal_;
    std::size_t d_;
};

/// The approximation's own error here is 3 % of the hit probability. Fails by chance less than once in 1e9. Power: seen
/// surely where it is off by 3 % and another 0.07 (12 standard deviations of 0.006 at 6000 trials), as it is without
/// the dependence of unit keys between channels (quest: 0.25 for 0.28 at one token, 0.05 for 0.07 at four).
TEST(ChannelScorers, ApproximationAgreesWithSimulation) {
    std::uint64_t seed = sim::testing::test_seed();
    RoutingPoint several = noted("quest");
    several.cluster_size = 3;
    several.mu_cluster = 0.4;
    for (RoutingPoint point : {noted("quest"), several}) {
        point.candidates = 24;
        SCOPED_TRACE(canonical_text(point));
        DrawnChannels channels(point, seed++);
        const std::uint64_t trials = 6000 / sim::testing::kSlower;
        std::uint64_t quest = 0;
        std::uint64_t max = 0;
        for (std::uint64_t i = 0; i < trials; ++i) {
            const DrawnChannels::Hits hits = channels.trial();
            quest += hits.quest ? 1U : 0U;
            max += hits.max ? 1U : 0U;
        }
        for (const auto& [scorer, hits] : {std::pair{"quest", quest}, {"max", max}}) {
            point.scorer = parse_scorer(scorer);
            const Interval interval =
                clopper_pearson(static_cast<double>(hits), static_cast<double>(trials), sim::testing::kFalseAlarm);
            EXPECT_GE(approximate_hit_probability(point).hit(), 0.97 * interval.low) << scorer;
            EXPECT_LE(approximate_hit_probability(point).hit(), 1.03 * interval.high) << scorer;
        }
    }
}

/// max: 0.173 in the theory notes. quest: 0.227 there is of normal keys, whose lengths vary together with the sum over
/// channels; 0.2815 +- 0.0053 was simulated with unit keys, the only keys there are here.
TEST(ChannelScorers, ApproximationAtThePointOfTheTheoryNotes) {
    EXPECT_NEAR(approximate_hit_probability(noted("max")).hit(), 0.173, 0.03 * 0.173);
    EXPECT_NEAR(approximate_hit_probability(noted("quest")).hit(), 0.2815, 0.03 * 0.2815);
}

TEST(ChannelScorers, ApproximationKnowsTheCertainCases) {
    RoutingPoint point = noted("quest");
    point.topk = 1;
    EXPECT_EQ(approximate_hit_probability(point).hit(), 0.0);
    point.topk = 65;
    EXPECT_EQ(approximate_hit_probability(point).miss(), 0.0);
    point = noted("quest");
    point.head_dim = 15;
    EXPECT_THROW(approximate_hit_probability(point), InputError);
    point.head_dim = 64;
    // Not even a block of copies of the query itself is found: sum of |q_c| times the largest of 16 noise coordinates
    // is about 1.4, above q.q = 1.
    point.mu_signal = 1.0;
    point.mu_cluster = 1.0;
    point.cluster_size = 16;
    EXPECT_LT(approximate_hit_probability(point).hit(), 1e-6);
    // Without a signal the needle's block is one of c alike, but for the needle's lack of an affinity.
    point = noted("max");
    point.mu_signal = 0.0;
    EXPECT_NEAR(approximate_hit_probability(point).hit(), 0.0625, 0.005);
}

// ---- what asks them
// --------------------------------------------------------------------------------------------------

TEST(ScorerLaw, InverseQuestionsAnswerForEveryScorer) {
    RoutingPoint point = noted("submean-4");
    point.cluster_size = 2;
    point.mu_cluster = 0.3;
    const auto reaches = [](const RoutingPoint& p) { return hit(p) >= 0.8; };
    RoutingPoint changed = point;
    changed.topk = topks_that_reach(point, 0.8).intervals.at(0).low;
    EXPECT_TRUE(reaches(changed));
    --changed.topk;
    EXPECT_FALSE(reaches(changed));
    changed = point;
    changed.mu_signal = mu_signals_that_reach(point, 0.8).intervals.at(0).low;
    EXPECT_TRUE(reaches(changed));
    changed.mu_signal -= 1e-6;
    EXPECT_FALSE(reaches(changed));
    changed = point;
    changed.head_dim = head_dims_that_reach(point, 0.8).intervals.back().low;
    EXPECT_TRUE(reaches(changed));
    --changed.head_dim;
    EXPECT_FALSE(reaches(changed));
    EXPECT_THROW(block_sizes_that_reach(point, 0.8), InputError);

    const RoutingPoint chance = noted("random");
    EXPECT_EQ(topks_that_reach(chance, 0.5).intervals, (std::vector<Range<std::int64_t>>{{33, 65}}));
    EXPECT_FALSE(head_dims_that_reach(chance, 0.5).any());
    EXPECT_FALSE(mu_signals_that_reach(chance, 0.5).any());
    EXPECT_THROW(topks_that_reach(noted("quest"), 0.5), InputError);
}

TEST(ScorerLaw, MissCurvesFollowIt) {
    for (const char* scorer : {"random", "submean-4", "submean-16"}) {
        for (const std::int64_t topk : {2, 64}) {
            for (const std::int64_t cluster : {1, 3}) {
                RoutingPoint point{.head_dim = 128,
                                   .block_size = 16,
                                   .topk = topk,
                                   .cluster_size = cluster,
                                   .mu_signal = 0.3,
                                   .mu_cluster = 0.25,
                                   .scorer = parse_scorer(scorer)};
                const MissCurve curve(point);
                for (const std::int64_t candidates : {1, 50, 175, 1584, 4072}) {
                    point.candidates = candidates;
                    const HitProbability exact = exact_hit_probability(point);
                    const HitProbability seen = curve.at(candidates);
                    if (std::isinf(exact.log_miss)) {
                        EXPECT_EQ(seen.log_miss, exact.log_miss);
                        continue;
                    }
                    EXPECT_NEAR(seen.log_miss, exact.log_miss, 1e-7) << canonical_text(point);
                    EXPECT_NEAR(seen.log_hit, exact.log_hit, 1e-7) << canonical_text(point);
                }
            }
        }
    }
}

/// The interpolated curve was wrong by 2 % here.
TEST(MissCurve, AFixedSignalScoreIsNotInterpolatedAcrossItsBend) {
    RoutingPoint point{
        .head_dim = 128, .block_size = 16, .topk = 64, .cluster_size = 16, .mu_signal = 0.3, .mu_cluster = 0.02};
    const MissCurve curve(point);
    for (point.candidates = 100; point.candidates < 5000; point.candidates += 97) {
        EXPECT_NEAR(curve.at(point.candidates).log_miss, exact_hit_probability(point).log_miss, 1e-7);
    }
}

}  // namespace
}  // namespace mobalab::analysis
