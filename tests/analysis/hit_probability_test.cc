#include "analysis/hit_probability.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "analysis/affinity_sum.h"
#include "analysis/binomial_tail.h"
#include "analysis/hit_problem.h"
#include "analysis/log_space.h"
#include "analysis/paper_formulas.h"
#include "analysis/top_k.h"

namespace mobalab::analysis {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int sweep_divisor = 10;
#else
constexpr int sweep_divisor = 1;
#endif

bool is_sphere(Model model) {
    return model == Model::sphere || model == Model::vector;
}

constexpr Model all_models[] = {Model::gaussian, Model::gaussian_fixed, Model::sphere, Model::vector};

/// Wide, including extremes: tiny and huge dimensions, one key a block, all but one key fixed, a million candidates.
class PointSource {
public:
    PointSource(Model model, unsigned seed) : model_(model), generator_(seed) {}

    RoutingPoint next() {
        RoutingPoint p;
        p.model = model_;
        p.head_dim = log_uniform(2, 1024);
        p.block_size = log_uniform(2, 512);
        p.candidates = log_uniform(2, 1'000'000);
        p.topk = std::min<std::int64_t>(512, log_uniform(2, p.candidates));
        p.cluster_size = std::min(p.block_size - 1, log_uniform(1, p.block_size));
        if (chance(0.1)) p.cluster_size = p.block_size - 1;
        p.mu_signal = chance(0.1) ? 1.0 : uniform(0.0, 1.0);
        p.mu_cluster = chance(0.2) ? uniform(-0.2, 0.0) : uniform(0.0, 0.5);
        if (model_ == Model::gaussian || model_ == Model::gaussian_fixed)
            p.mu_noise = chance(0.5) ? 0.0 : uniform(-0.2, 0.2);
        return p;
    }

private:
    double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(generator_); }
    bool chance(double p) { return uniform(0.0, 1.0) < p; }
    std::int64_t log_uniform(std::int64_t low, std::int64_t high) {
        return std::clamp(
            std::llround(std::exp(uniform(std::log(static_cast<double>(low)), std::log(static_cast<double>(high))))),
            static_cast<long long>(low), static_cast<long long>(high));
    }

    Model model_;
    std::mt19937 generator_;
};

/// How much relative error the rounding of log-probabilities of this size costs by itself.
double rounding(double log_smaller) {
    return 1e-14 * std::abs(log_smaller);
}

/// The two integrals have different integrands, nodes and windows, and only one has a binomial tail: their agreement
/// checks both. A deterministic sweep (fixed seeds), so it cannot fail by chance.
void compare_forms(Model model, int count, double tolerance) {
    PointSource source(model, 20240 + static_cast<unsigned>(model));
    for (int i = 0; i < count; ++i) {
        const RoutingPoint point = source.next();
        if (point.noise_blocks() < point.routed()) continue;
        SCOPED_TRACE(canonical_text(point));
        const TopKProblem problem = top_k_problem(point);
        const LogHitMiss noise = solve_top_k(problem, Form::noise_first);
        const LogHitMiss signal = solve_top_k(problem, Form::signal_first);
        const double smaller = std::min(noise.hit, noise.miss);
        if (smaller == log_zero) {
            EXPECT_EQ(std::min(signal.hit, signal.miss), log_zero);
            continue;
        }
        if (smaller < -2.0 * 690.0) continue;  // beyond 1e-600 no digits are promised
        EXPECT_NEAR(noise.hit, signal.hit, tolerance + rounding(smaller));
        EXPECT_NEAR(noise.miss, signal.miss, tolerance + rounding(smaller));
    }
}

TEST(HitProbabilityTest, TwoIntegralsAgreeGaussian) {
    compare_forms(Model::gaussian, 4000 / sweep_divisor, 1e-9);
}

TEST(HitProbabilityTest, TwoIntegralsAgreeGaussianFixed) {
    compare_forms(Model::gaussian_fixed, 4000 / sweep_divisor, 1e-9);
}

TEST(HitProbabilityTest, TwoIntegralsAgreeSphere) {
    compare_forms(Model::sphere, 200 / sweep_divisor, 1e-8);
}

/// The h-th best of several needles, correlated keys included where they have a law.
TEST(HitProbabilityTest, TwoIntegralsAgreeForSeveralNeedles) {
    for (const Model model : {Model::gaussian, Model::gaussian_fixed, Model::sphere}) {
        PointSource source(model, 11);
        std::mt19937 generator(12);
        int compared = 0;
        for (int i = 0; i < (is_sphere(model) ? 150 : 1000) / sweep_divisor; ++i) {
            RoutingPoint point = source.next();
            point.needles = std::uniform_int_distribution<std::int64_t>(2, 40)(generator);
            point.key_correlation =
                is_sphere(model) ? 0.0 : std::uniform_real_distribution<double>(0.0, 1.0)(generator);
            const std::int64_t found = std::uniform_int_distribution<std::int64_t>(1, point.needles)(generator);
            const std::int64_t slots = point.routed() - found + 1;
            if (slots < 1 || point.noise_blocks() < slots) continue;
            SCOPED_TRACE(canonical_text(point) + ", found " + std::to_string(found));
            const TopKProblem problem = top_k_problem(point, found);
            const LogHitMiss noise = solve_top_k(problem, Form::noise_first);
            const LogHitMiss signal = solve_top_k(problem, Form::signal_first);
            const double smaller = std::min(noise.hit, noise.miss);
            if (smaller < -2.0 * 690.0) continue;
            EXPECT_NEAR(noise.hit, signal.hit, 1e-8 + rounding(smaller));
            EXPECT_NEAR(noise.miss, signal.miss, 1e-8 + rounding(smaller));
            ++compared;
        }
        EXPECT_GE(compared, 5);
    }
}

/// Needles without a signal in the paper's model are R of c equal blocks: the number found is hypergeometric.
TEST(HitProbabilityTest, NeedlesWithoutASignalAreADrawAmongEquals) {
    for (const auto& [candidates, needles, routed] : std::vector<std::array<std::int64_t, 3>>{
             {20, 3, 5}, {20, 3, 2}, {20, 18, 5}, {20, 20, 5}, {300, 40, 200}, {100'000, 2, 1}, {100'000, 5, 8}}) {
        RoutingPoint point{.model = Model::gaussian, .candidates = candidates, .topk = routed + 1, .mu_signal = 0.0};
        point.needles = needles;
        point.key_correlation = 0.3;
        SCOPED_TRACE(canonical_text(point));
        const double all = log_binomial_coefficient(candidates, routed);
        point.goal = Goal::each;
        EXPECT_NEAR(exact_hit_probability(point).log_hit,
                    std::log(static_cast<double>(routed) / static_cast<double>(candidates)), 1e-9);
        point.goal = Goal::any;
        const std::int64_t noise = candidates - needles;
        const double none = routed <= noise ? log_binomial_coefficient(noise, routed) - all : log_zero;
        EXPECT_NEAR(exact_hit_probability(point).log_hit, log_one_minus_exp(none), 1e-8);
        point.goal = Goal::all;
        const double every = needles <= routed ? log_binomial_coefficient(noise, routed - needles) - all : log_zero;
        if (every > log_zero) {
            EXPECT_NEAR(exact_hit_probability(point).log_hit, every, 1e-8 + rounding(every));
        } else {
            EXPECT_EQ(exact_hit_probability(point).log_hit, log_zero);
        }
    }
}

TEST(HitProbabilityTest, OneNeedleHasOneGoal) {
    RoutingPoint point;
    const HitProbability expected = exact_hit_probability(point);
    for (const Goal goal : {Goal::any, Goal::all}) {
        point.goal = goal;
        EXPECT_EQ(exact_hit_probability(point).log_miss, expected.log_miss);
    }
}

TEST(HitProbabilityTest, KeysThatAreNotIndependentHaveNone) {
    RoutingPoint point{.key_correlation = 0.1};
    EXPECT_THROW(exact_hit_probability(point), InputError);
    point = {.key_conv = 3};
    EXPECT_THROW(exact_hit_probability(point), InputError);
    point = {.model = Model::gaussian_fixed, .key_correlation = 0.1};
    EXPECT_NO_THROW(exact_hit_probability(point));
}

/// Correlation is a change of variance: noise as if its blocks had 1 + (B - 1) rho times fewer dimensions.
TEST(HitProbabilityTest, CorrelatedNormalKeysHaveTheVarianceOfTheTheory) {
    RoutingPoint point{.model = Model::gaussian, .head_dim = 400, .block_size = 16, .mu_signal = 0.5};
    point.key_correlation = 0.2;  // 1 + 15 * 0.2 = 4
    const HitProbability correlated = exact_hit_probability(point);
    EXPECT_NEAR(
        correlated.log_miss,
        exact_hit_probability({.model = Model::gaussian, .head_dim = 100, .block_size = 16, .mu_signal = 0.5}).log_miss,
        1e-12);
    point.model = Model::gaussian_fixed;
    point.cluster_size = 6;
    const NormalSignal signal = normal_signal(point);
    EXPECT_NEAR(signal.mean, 0.5 * std::sqrt(400.0 / 16.0) / 2.0, 1e-12);
    EXPECT_NEAR(signal.sd * signal.sd, (10.0 * (1.0 + 9.0 * 0.2)) / (16.0 * 4.0), 1e-12);
}

TEST(HitProbabilityTest, HitAndMissAreComplements) {
    for (const Model model : all_models) {
        PointSource source(model, 7);
        for (int i = 0; i < (is_sphere(model) ? 40 : 400) / sweep_divisor; ++i) {
            const RoutingPoint point = source.next();
            SCOPED_TRACE(canonical_text(point));
            const HitProbability p = exact_hit_probability(point);
            EXPECT_NEAR(p.hit() + p.miss(), 1.0, 4e-16);
            EXPECT_LE(p.log_hit, 0.0);
            EXPECT_LE(p.log_miss, 0.0);
        }
    }
}

/// More signal, more dimensions, more slots: never fewer hits. More rivals: never more.
TEST(HitProbabilityTest, Monotone) {
    const auto not_less = [](const RoutingPoint& worse, const RoutingPoint& better) {
        const HitProbability low = exact_hit_probability(worse);
        const HitProbability high = exact_hit_probability(better);
        SCOPED_TRACE(canonical_text(worse) + " then " + canonical_text(better));
        EXPECT_LE(low.log_hit, high.log_hit + 1e-8);
        EXPECT_GE(low.log_miss, high.log_miss - 1e-8);
        return high.log_hit - low.log_hit;
    };
    for (const Model model : all_models) {
        PointSource source(model, 99);
        for (int i = 0; i < (is_sphere(model) ? 20 : 100) / sweep_divisor; ++i) {
            RoutingPoint point = source.next();
            point.mu_noise = 0.0;
            point.mu_signal *= 0.9;
            point.mu_cluster = std::abs(point.mu_cluster);
            RoutingPoint other = point;
            other.mu_signal *= 1.1;
            not_less(point, other);
            other = point;
            other.head_dim += 1 + point.head_dim / 8;
            not_less(point, other);
            other = point;
            if (++other.topk <= 512) not_less(point, other);
            other = point;
            if (++other.candidates <= 1'000'000) not_less(other, point);
        }
        const RoutingPoint usual{.model = model, .block_size = 16};
        RoutingPoint easier = usual;
        easier.mu_signal = 0.85;
        EXPECT_GT(not_less(usual, easier), 1e-3);
        easier = usual;
        ++easier.head_dim;
        EXPECT_GT(not_less(usual, easier), 1e-4);
    }
}

TEST(HitProbabilityTest, SlotsForEveryoneOrNobody) {
    for (const Model model : all_models) {
        RoutingPoint point{.model = model, .candidates = 8, .topk = 9};
        EXPECT_EQ(exact_hit_probability(point).log_hit, 0.0);
        EXPECT_EQ(exact_hit_probability(point).log_miss, log_zero);
        EXPECT_EQ(exact_hit_probability(point).miss(), 0.0);
        point.topk = 8;  // seven slots, seven rivals: the first point where a miss exists
        EXPECT_LT(exact_hit_probability(point).log_hit, 0.0);
        EXPECT_GT(exact_hit_probability(point).log_miss, log_zero);
        point.topk = 1;
        EXPECT_EQ(exact_hit_probability(point).log_hit, log_zero);
        EXPECT_EQ(exact_hit_probability(point).hit(), 0.0);
        EXPECT_EQ(exact_hit_probability(point).miss(), 1.0);
        point.candidates = 1;
        EXPECT_EQ(exact_hit_probability(point).hit(), 0.0);
        point.topk = 2;
        EXPECT_EQ(exact_hit_probability(point).hit(), 1.0);
    }
}

/// A signal like any other block is kept with probability routed / candidates, by symmetry.
TEST(HitProbabilityTest, NoSignalIsChance) {
    for (const std::int64_t candidates : {2, 64, 1'000'000}) {
        const RoutingPoint point{.model = Model::gaussian, .candidates = candidates, .topk = 2, .mu_signal = 0.0};
        EXPECT_NEAR(exact_hit_probability(point).hit() * static_cast<double>(candidates), 1.0, 1e-9);
    }
}

/// One rival for one slot is the paper's pairwise question.
TEST(HitProbabilityTest, OneRivalIsThePaperFormula) {
    for (const double mu : {0.1, 0.5, 1.0}) {
        for (const std::int64_t d : {16, 64, 16384}) {
            const RoutingPoint point{
                .model = Model::gaussian, .head_dim = d, .candidates = 2, .topk = 2, .mu_signal = mu};
            EXPECT_NEAR(exact_hit_probability(point).miss() / pairwise_miss(point), 1.0, 1e-9);
        }
    }
}

/// The hit probability at the paper's threshold, as derived in the README: .742 and .671 of 64 candidates.
TEST(HitProbabilityTest, AtThePaperThreshold) {
    const auto at_threshold = [](std::int64_t candidates, std::int64_t topk) {
        RoutingPoint point{
            .model = Model::gaussian, .head_dim = 256, .block_size = 8, .candidates = candidates, .topk = topk};
        point.mu_signal = reliable_snr_threshold(point) / 4.0;
        return exact_hit_probability(point).hit();
    };
    EXPECT_NEAR(at_threshold(64, 2), 0.742, 5e-4);
    EXPECT_NEAR(at_threshold(64, 9), 0.671, 5e-4);
    EXPECT_NEAR(at_threshold(1024, 2), 0.857, 5e-4);
    EXPECT_NEAR(at_threshold(1024, 9), 0.835, 5e-4);
    EXPECT_NEAR(at_threshold(65536, 9), 0.933, 5e-4);
}

/// The numbers of the README: the three models at one point.
TEST(HitProbabilityTest, Anchors) {
    RoutingPoint point{.head_dim = 64, .block_size = 16, .candidates = 64, .topk = 9, .mu_signal = 0.9};
    EXPECT_NEAR(exact_hit_probability(point).hit(), 0.7363538, 1e-7);
    point.model = Model::gaussian_fixed;
    EXPECT_NEAR(exact_hit_probability(point).hit(), 0.7366136, 1e-7);
    point = {.block_size = 16, .candidates = 64, .topk = 5, .cluster_size = 4, .mu_signal = 0.8, .mu_cluster = 0.8};
    EXPECT_NEAR(exact_hit_probability(point).miss(), 4.5e-8, 1e-9);
    point.model = Model::gaussian_fixed;
    EXPECT_NEAR(exact_hit_probability(point).miss(), 5.5e-8, 1e-9);
    point.model = Model::gaussian;
    EXPECT_NEAR(exact_hit_probability(point).miss(), 1.6e-6, 1e-8);
}

/// Unit keys are lighter-tailed than normal ones and become normal as d B grows.
TEST(HitProbabilityTest, SphereApproachesGaussianFixed) {
    double previous = 1.0;
    for (const std::int64_t d : {16, 64, 256, 1024, 4096}) {
        RoutingPoint point{.model = Model::sphere, .head_dim = d, .block_size = 16, .candidates = 64};
        point.mu_signal = 1.5 * std::sqrt(16.0 / static_cast<double>(d));
        if (point.mu_signal > 1.0) continue;
        const double exact = exact_hit_probability(point).hit();
        point.model = Model::gaussian_fixed;
        const double difference = std::abs(exact_hit_probability(point).hit() - exact);
        EXPECT_LT(difference, 0.5 * previous);
        previous = difference;
    }
    EXPECT_LT(previous, 1e-4);
}

/// Beyond the largest possible noise score a miss is impossible, just inside it is not.
TEST(HitProbabilityTest, MissImpossibleOnTheSphere) {
    // c = m mu against 2B - m: B = 4, m = 3 needs c = 5, out of reach; m = B = 4 and mu = 1 gives c = 4 = 2B - m.
    const RoutingPoint certain{.head_dim = 8,
                               .block_size = 4,
                               .candidates = 1000,
                               .topk = 2,
                               .cluster_size = 4,
                               .mu_signal = 1.0,
                               .mu_cluster = 1.0};
    EXPECT_EQ(exact_hit_probability(certain).log_miss, log_zero);
    EXPECT_EQ(exact_hit_probability(certain).log_hit, 0.0);
    RoutingPoint nearly = certain;
    nearly.mu_signal = 1.0 - 1e-12;
    EXPECT_GT(exact_hit_probability(nearly).log_miss, log_zero);
    EXPECT_LT(exact_hit_probability(nearly).log_miss, -200.0);
    nearly = certain;
    nearly.cluster_size = 3;
    EXPECT_GT(exact_hit_probability(nearly).log_miss, log_zero);
    const RoutingPoint one_key{.head_dim = 64, .block_size = 1, .candidates = 1000, .topk = 2, .mu_signal = 1.0};
    EXPECT_EQ(exact_hit_probability(one_key).log_miss, log_zero);
}

/// d = 3, B = 1: affinities are uniform on [-1, 1] and everything is elementary.
TEST(HitProbabilityTest, UniformAffinities) {
    RoutingPoint point{.head_dim = 3, .block_size = 1, .candidates = 11, .topk = 2, .mu_signal = 0.5};
    EXPECT_NEAR(exact_hit_probability(point).hit(), std::pow(0.75, 10), 1e-15);
    // B = 2, one rival: S = 0.5 + t1, X = t2 + t3; P(X > S) = P(t2 + t3 + t1' > 0.5) for three uniforms.
    point = {.head_dim = 3, .block_size = 2, .candidates = 2, .topk = 2, .mu_signal = 0.5};
    const double tail = (std::pow(2.5, 3) - 3.0 * std::pow(0.5, 3)) / 48.0;
    EXPECT_NEAR(exact_hit_probability(point).miss(), tail, 1e-9);
}

/// One rival: P(miss) = P(T_B - T_(B-m) > c) = P(T_(2B-m) > c), a single tail, whatever the shape of the laws.
TEST(HitProbabilityTest, OneRivalOnTheSphereIsASingleTail) {
    for (const std::int64_t d : {2, 3, 4, 7, 16, 64}) {
        for (const auto& [b, m] : {std::pair<std::int64_t, std::int64_t>{2, 1}, {3, 2}, {5, 1}, {16, 3}, {40, 39}}) {
            for (const double mu : {0.05, 0.6, 1.0}) {
                const RoutingPoint point{.head_dim = d,
                                         .block_size = b,
                                         .candidates = 2,
                                         .topk = 2,
                                         .cluster_size = m,
                                         .mu_signal = mu,
                                         .mu_cluster = 0.5 * mu};
                const double c = point.delta_mu_eff();
                const auto reach = static_cast<double>(2 * b - m);
                SCOPED_TRACE(canonical_text(point));
                EXPECT_NEAR(exact_hit_probability(point).log_miss,
                            affinity_sum(d, 2 * b - m)->at_gaps(reach + c, reach - c).upper, 1e-9);
            }
        }
    }
}

/// Tables of rough laws are made on first use, possibly by several threads at once.
TEST(HitProbabilityTest, ThreadsGetTheSameBits) {
    const RoutingPoint rough{
        .head_dim = 6, .block_size = 5, .candidates = 20, .topk = 3, .cluster_size = 2, .mu_signal = 0.5};
    const RoutingPoint smooth{.head_dim = 48, .block_size = 16, .candidates = 20, .topk = 3, .mu_signal = 0.5};
    std::vector<double> results(8);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < results.size(); ++i) {
        threads.emplace_back(
            [&, i] { results[i] = exact_hit_probability(rough).log_hit + exact_hit_probability(smooth).log_hit; });
    }
    for (std::thread& thread : threads) thread.join();
    const double serial = exact_hit_probability(rough).log_hit + exact_hit_probability(smooth).log_hit;
    for (const double result : results) EXPECT_EQ(result, serial);
}

TEST(HitProbabilityTest, BadPointsAreRefused) {
    EXPECT_THROW(exact_hit_probability({.head_dim = 1}), InputError);
    EXPECT_THROW(exact_hit_probability({.mu_signal = std::numeric_limits<double>::quiet_NaN()}), InputError);
}

// The mean over 54 needles, two slots: log P(miss) came as the mean of 54 numbers near 1, which rounds to 0.
TEST(LogProbability, OfASureMissIsTheTinyHit) {
    const RoutingPoint p{.model = Model::sphere,
                         .head_dim = 9,
                         .block_size = 2,
                         .candidates = 7578,
                         .topk = 3,
                         .cluster_size = 2,
                         .mu_signal = 0.3056,
                         .mu_cluster = 0.80089,
                         .needles = 54,
                         .goal = Goal::each};
    EXPECT_NEAR(exact_hit_probability(p).log_miss / -1.2001563826e-24, 1.0, 1e-9);
}

// Every model, goal and way to a rare hit or a rare miss: the logarithm near 0 is that of the complement.
TEST(LogProbability, NearZeroIsTheComplement) {
    int tiny_hits = 0;
    int tiny_misses = 0;
    for (const Model model : all_models) {
        for (const Goal goal : {Goal::each, Goal::any, Goal::all}) {
            for (const std::int64_t needles : {1, 2, 5, 54}) {
                for (const double mu : {0.0, 0.3, 0.9, 1.0}) {
                    for (const std::int64_t cluster : {1, 2}) {
                        const RoutingPoint p{.model = model,
                                             .head_dim = 512,
                                             .block_size = 2,
                                             .candidates = 7578,
                                             .topk = 60,
                                             .cluster_size = cluster,
                                             .mu_signal = mu,
                                             .mu_cluster = -0.5 + mu,
                                             .needles = needles,
                                             .goal = goal};
                        const HitProbability value = exact_hit_probability(p);
                        const double tiny = std::fmin(value.log_hit, value.log_miss);
                        const double near_zero = std::fmax(value.log_hit, value.log_miss);
                        tiny_hits += value.log_hit < -40.0 ? 1 : 0;
                        tiny_misses += value.log_miss < -40.0 ? 1 : 0;
                        EXPECT_NEAR(near_zero, log_one_minus_exp(tiny), 1e-14 * std::exp(tiny)) << canonical_text(p);
                        EXPECT_FALSE(std::signbit(near_zero) && near_zero == 0.0) << "-0";
                    }
                }
            }
        }
    }
    EXPECT_GT(tiny_hits, 10);
    EXPECT_GT(tiny_misses, 10);
}

}  // namespace
}  // namespace mobalab::analysis
