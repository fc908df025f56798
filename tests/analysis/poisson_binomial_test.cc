#include "analysis/poisson_binomial.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "analysis/agreement.h"
#include "analysis/binomial_interval.h"

namespace mobalab::analysis {
namespace {

BernoulliTrials trials_of(double trials, double p) {
    return {trials, std::log(p), std::log1p(-p)};
}

/// The law itself, one trial after the other.
std::vector<double> law_of(const std::vector<BernoulliTrials>& groups) {
    std::vector<double> law = {1.0};
    for (const BernoulliTrials& group : groups) {
        const double p = std::exp(group.log_p);
        for (int i = 0; i < static_cast<int>(group.trials); ++i) {
            law.push_back(0.0);
            for (std::size_t k = law.size() - 1; k > 0; --k) law[k] = law[k] * (1.0 - p) + law[k - 1] * p;
            law[0] *= 1.0 - p;
        }
    }
    return law;
}

double exact_two_sided(const std::vector<double>& law, std::size_t k) {
    double lower = 0.0;
    double upper = 0.0;
    for (std::size_t i = 0; i <= k; ++i) lower += law[i];
    for (std::size_t i = k; i < law.size(); ++i) upper += law[i];
    return std::min(1.0, 2.0 * std::min(lower, upper));
}

/// A count at its mean is no surprise, however many trials there are.
TEST(PoissonBinomial, CountsAtTheMeanOfManyTrialsAgree) {
    for (const double trials : {1e4, 1e5, 1e6, 1e7, 1e8, 1e9}) {
        for (int shift = 0; shift < 200; ++shift) {
            std::vector<BernoulliTrials> groups;
            double mean = 0.0;
            double variance = 0.0;
            for (int i = 0; i < 20; ++i) {
                const double p = 0.02 + 0.96 * std::fmod(0.137 * i + 0.618 * shift, 1.0);
                groups.push_back(trials_of(trials / 20, p));
                mean += trials / 20 * p;
                variance += trials / 20 * p * (1.0 - p);
            }
            const double at_mean = PoissonBinomialTails(groups, std::round(mean)).two_sided(1.0);
            EXPECT_GT(at_mean, 0.98) << trials << " trials, shift " << shift;
            // One standard deviation off it is what a normal law says, but for the share of one count.
            const double off = PoissonBinomialTails(groups, std::round(mean + std::sqrt(variance))).two_sided(1.0);
            EXPECT_NEAR(off, 0.3173, 1.0 / std::sqrt(variance)) << trials << " trials, shift " << shift;
        }
    }
}

TEST(PoissonBinomial, TailsAreThoseOfTheLawItself) {
    const std::vector<std::vector<BernoulliTrials>> cases = {
        {trials_of(40, 0.5)},
        {trials_of(200, 0.001), trials_of(50, 0.3), trials_of(20, 0.9)},
        {trials_of(1, 0.9), trials_of(1000, 0.001)},  // a binomial of its mean and variance has no more than 4 trials
        {trials_of(300, 0.002)},
        {trials_of(300, 0.999), trials_of(5, 0.01)}};
    for (const auto& groups : cases) {
        const std::vector<double> law = law_of(groups);
        for (std::size_t k = 0; k < law.size(); ++k) {
            const double exact = exact_two_sided(law, k);
            if (exact < 1e-250) continue;
            const double p = PoissonBinomialTails(groups, static_cast<double>(k)).two_sided(1.0);
            EXPECT_GT(p / exact, 0.98) << k << " of " << law.size() - 1 << ", exact " << exact;
            EXPECT_LT(p / exact, 1.1) << k << " of " << law.size() - 1 << ", exact " << exact;
        }
    }
}

TEST(PoissonBinomial, OneProbabilityIsTheBinomialAtAnyShare) {
    const std::vector<BernoulliTrials> groups = {trials_of(10000, 0.2)};
    for (const double misses : {1500.0, 1800.0, 1950.0, 2100.0, 2400.0}) {
        const PoissonBinomialTails tails(groups, misses);
        for (const double share : {1.0, 0.4, 0.05}) {
            const double binomial = binomial_two_sided_p(share * misses, share * 10000.0, std::log(0.2), std::log(0.8));
            EXPECT_NEAR(tails.two_sided(share) / binomial, 1.0, 0.01) << misses << ' ' << share;
        }
    }
}

TEST(PoissonBinomial, CertainAndImpossibleTrials) {
    const double none = -std::numeric_limits<double>::infinity();
    const std::vector<BernoulliTrials> groups = {{10, 0.0, none}, {20, none, 0.0}, trials_of(4, 0.25)};
    EXPECT_EQ(PoissonBinomialTails(groups, 9).two_sided(1.0), 0.0);
    EXPECT_EQ(PoissonBinomialTails(groups, 15).two_sided(1.0), 0.0);
    EXPECT_NEAR(PoissonBinomialTails(groups, 14).two_sided(1.0), 2.0 * std::pow(0.25, 4), 1e-12);
    EXPECT_NEAR(PoissonBinomialTails(groups, 10).two_sided(1.0), 2.0 * std::pow(0.75, 4), 1e-12);
    EXPECT_EQ(
        compare_with_exact(Counts{.misses = 30, .trials = 0}, std::vector<BernoulliTrials>{{30, 0.0, none}}).p_value,
        1.0);
}

TEST(PoissonBinomial, BadInputNeverAgrees) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const Counts counts{.misses = 1, .trials = 0};
    EXPECT_EQ(compare_with_exact(counts, std::vector<BernoulliTrials>{{2, nan, -1.0}}).p_value, 0.0);
    EXPECT_EQ(compare_with_exact(Counts{.misses = nan, .trials = 0}, std::vector{trials_of(2, 0.5)}).p_value, 0.0);
    EXPECT_THROW(compare_with_exact(Counts{.misses = 3, .trials = 0}, std::vector{trials_of(2, 0.5)}),
                 std::invalid_argument);
    EXPECT_EQ(compare_with_exact(Counts{.misses = 0, .trials = 0}, std::vector<BernoulliTrials>{}).p_value, 1.0);
}

}  // namespace
}  // namespace mobalab::analysis
