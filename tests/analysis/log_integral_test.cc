#include "analysis/log_integral.h"

#include <gtest/gtest.h>

#include <boost/math/distributions/binomial.hpp>
#include <cmath>
#include <numbers>

#include "analysis/binomial_tail.h"
#include "analysis/log_space.h"

namespace mobalab::analysis {
namespace {

/// Peaks of every shape the hit integrals have, found from good and from hopeless guesses.
TEST(LogIntegralTest, KnownIntegrals) {
    const auto normal = [](double x) { return -0.5 * (x - 3.0) * (x - 3.0) - 1e4; };
    const auto gumbel = [](double x) { return 5.0 * x - std::exp(x); };
    const auto logistic = [](double x) { return 0.5 * x - std::abs(x) - 2.0 * std::log1p(std::exp(-std::abs(x))); };
    for (const double guess : {-40.0, 0.0, 2.9, 60.0}) {
        for (const double scale : {1e-3, 1.0, 30.0}) {
            SCOPED_TRACE(testing::Message() << "guess " << guess << " scale " << scale);
            EXPECT_NEAR(log_integral(normal, guess, scale), 0.5 * std::log(2.0 * std::numbers::pi) - 1e4, 2e-10);
            EXPECT_NEAR(log_integral(gumbel, guess, scale), std::log(24.0), 2e-10);
            EXPECT_NEAR(log_integral(logistic, guess, scale), std::log(std::numbers::pi / 2.0), 2e-10);
        }
    }
}

TEST(LogIntegralTest, NothingToIntegrate) {
    EXPECT_EQ(log_integral([](double) { return log_zero; }, 0.0, 1.0), log_zero);
}

TEST(LogSpaceTest, ComplementKeepsDigitsAtBothEnds) {
    EXPECT_DOUBLE_EQ(log_one_minus_exp(-1e-300), std::log(1e-300));
    EXPECT_DOUBLE_EQ(log_one_minus_exp(-800.0), -std::exp(-800.0));
    EXPECT_DOUBLE_EQ(log_one_minus_exp(std::log(0.25)), std::log(0.75));
    EXPECT_EQ(log_one_minus_exp(0.0), log_zero);
    EXPECT_EQ(log_one_minus_exp(log_zero), 0.0);
}

TEST(BinomialTailTest, AgreesWithBoostWhereBoostDoesNotUnderflow) {
    for (const std::int64_t n : {1, 2, 15, 1000, 999'999}) {
        for (const std::int64_t k : {1, 2, 8, 511}) {
            if (k > n) continue;
            const BinomialTail tails(n, k);
            for (const double p : {1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9, 1.0 - 1e-9}) {
                SCOPED_TRACE(testing::Message() << "n " << n << " k " << k << " p " << p);
                const boost::math::binomial law(static_cast<double>(n), p);
                const double lower = boost::math::cdf(law, static_cast<double>(k - 1));
                const double upper = boost::math::cdf(boost::math::complement(law, static_cast<double>(k - 1)));
                const LogTails logs = tails.at(std::log(p), std::log1p(-p));
                if (upper > 1e-290) {
                    EXPECT_NEAR(logs.upper, std::log(upper), 1e-10);
                }
                if (lower > 1e-290) {
                    EXPECT_NEAR(logs.lower, std::log(lower), 1e-10);
                }
            }
        }
    }
}

TEST(BinomialTailTest, Edges) {
    const BinomialTail tails(10, 3);
    EXPECT_EQ(tails.at(log_zero, 0.0).upper, log_zero);
    EXPECT_EQ(tails.at(log_zero, 0.0).lower, 0.0);
    EXPECT_EQ(tails.at(0.0, log_zero).upper, 0.0);
    EXPECT_EQ(tails.at(0.0, log_zero).lower, log_zero);
    EXPECT_EQ(BinomialTail(10, 11).at(-1.0, std::log1p(-std::exp(-1.0))).upper, log_zero);
    EXPECT_EQ(BinomialTail(10, 0).at(-1.0, std::log1p(-std::exp(-1.0))).upper, 0.0);
    // Where Boost underflows: P(X >= 3) = C(10, 3) p^3 to leading order at p = 1e-200.
    EXPECT_NEAR(tails.at(-200.0 * std::numbers::ln10, 0.0).upper, std::log(120.0) - 600.0 * std::numbers::ln10, 1e-12);
}

}  // namespace
}  // namespace mobalab::analysis
