#include "analysis/block_score_law.h"

#include <gtest/gtest.h>

#include <boost/math/quadrature/gauss_kronrod.hpp>
#include <boost/math/special_functions/beta.hpp>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "analysis/affinity_sum.h"
#include "analysis/affinity_sum_contour.h"
#include "analysis/affinity_sum_table.h"
#include "analysis/normal_law.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

/// The contour integral also works where tables are used, slowly: the two methods share nothing.
TEST(AffinitySumTest, ContourAgreesWithConvolution) {
    for (const auto& [d, r] :
         {std::pair<std::int64_t, std::int64_t>{2, 16}, {3, 10}, {4, 7}, {5, 5}, {7, 3}, {11, 2}}) {
        std::shared_ptr<const AffinitySum> table = std::make_shared<SingleAffinity>(d);
        for (std::int64_t k = 2; k <= r; ++k) table = std::make_shared<TabulatedAffinitySum>(d, k, *table);
        const ContourAffinitySum contour(d, r);
        const auto width = 2.0 * static_cast<double>(r);
        for (const double share : {0.1, 0.25, 0.4, 0.5, 0.7}) {
            SCOPED_TRACE(testing::Message() << "d " << d << " R " << r << " share " << share);
            const double gap = share * width;
            const LogLaw a = table->at_gaps(width - gap, gap);
            const LogLaw b = contour.at_gaps(width - gap, gap);
            EXPECT_NEAR(a.upper, b.upper, 1e-11);
            EXPECT_NEAR(a.lower, b.lower, 1e-11);
            EXPECT_NEAR(a.density, b.density, 1e-10);
        }
    }
}

/// One key has the beta law, whichever method is in charge (the contour takes over at d = 49).
TEST(AffinitySumTest, OneKeyIsBeta) {
    for (const std::int64_t d : {2, 3, 4, 10, 48, 49, 64, 200}) {
        const double half = 0.5 * static_cast<double>(d - 1);
        for (const double gap : {0.2, 0.5, 0.9, 1.0, 1.4}) {
            SCOPED_TRACE(testing::Message() << "d " << d << " gap " << gap);
            const LogLaw law = affinity_sum(d, 1)->at_gaps(2.0 - gap, gap);
            EXPECT_NEAR(law.upper, std::log(boost::math::ibeta(half, half, 0.5 * gap)), 1e-11);
            EXPECT_NEAR(law.density, std::log(0.5 * boost::math::ibeta_derivative(half, half, 0.5 * gap)), 1e-10);
        }
    }
}

/// The density integrates to what the tail loses.
TEST(AffinitySumTest, DensityIsTheSlopeOfTheTail) {
    for (const auto& [d, r] :
         {std::pair<std::int64_t, std::int64_t>{2, 3}, {3, 2}, {6, 4}, {16, 3}, {64, 1}, {64, 64}, {300, 20}}) {
        SCOPED_TRACE(testing::Message() << "d " << d << " R " << r);
        const auto law = affinity_sum(d, r);
        const auto width = 2.0 * static_cast<double>(r);
        const double sd = std::sqrt(static_cast<double>(r) / static_cast<double>(d));
        const double from = 0.5 * width - 1.5 * sd;
        const double to = 0.5 * width - 1.1 * sd;  // no singular point of the small sums lies in between
        const double area = boost::math::quadrature::gauss_kronrod<double, 15>::integrate(
            [&](double gap) { return std::exp(law->at_gaps(width - gap, gap).density); }, from, to, 6, 1e-9);
        const double loss =
            std::exp(law->at_gaps(width - to, to).upper) - std::exp(law->at_gaps(width - from, from).upper);
        EXPECT_NEAR(area / loss, 1.0, 1e-8);
    }
}

TEST(AffinitySumTest, EndsOfTheSupport) {
    for (const auto& [d, r] : {std::pair<std::int64_t, std::int64_t>{2, 1}, {2, 4}, {64, 1}, {64, 16}}) {
        const auto law = affinity_sum(d, r);
        const auto width = 2.0 * static_cast<double>(r);
        EXPECT_EQ(law->at_gaps(width, 0.0).upper, -std::numeric_limits<double>::infinity());
        EXPECT_EQ(law->at_gaps(width, 0.0).lower, 0.0);
        EXPECT_EQ(law->at_gaps(-1.0, width + 1.0).upper, 0.0);
        EXPECT_EQ(law->at_gaps(-1.0, width + 1.0).lower, -std::numeric_limits<double>::infinity());
        // P(T > R - gap) is gap^smoothness times a constant as the gap closes.
        const double slope = law->at_gaps(width, 2e-9).upper - law->at_gaps(width, 1e-9).upper;
        EXPECT_NEAR(slope, smoothness(d, r) * std::log(2.0), 1e-6);
    }
}

TEST(BlockScoreLawTest, IsTheMeanOfTheSum) {
    const BlockScoreLaw law(64, 16);
    const auto sum = affinity_sum(64, 16);
    EXPECT_NEAR(law.log_upper_tail(0.125), sum->at_gaps(18.0, 14.0).upper, 1e-13);
    EXPECT_NEAR(law.log_lower_tail(-0.125), sum->at_gaps(18.0, 14.0).upper, 1e-13);
    EXPECT_NEAR(law.log_density(0.125), sum->at_gaps(18.0, 14.0).density + std::log(16.0), 1e-13);
    EXPECT_NEAR(law.cdf(0.0), 0.5, 1e-14);
    EXPECT_EQ(law.log_upper_tail(1.0), -std::numeric_limits<double>::infinity());
    EXPECT_EQ(law.log_upper_tail(-2.0), 0.0);
}

/// Many keys: normal with variance 1 / (d B), the first correction being of order 1 / (d B).
TEST(BlockScoreLawTest, TendsToTheNormalLaw) {
    for (const double z : {-2.0, 0.5, 2.0}) {
        const double far = std::exp(BlockScoreLaw(64, 16).log_upper_tail(z / 32.0) - log_normal_upper(z)) - 1.0;
        const double near = std::exp(BlockScoreLaw(64, 1024).log_upper_tail(z / 256.0) - log_normal_upper(z)) - 1.0;
        EXPECT_LT(std::abs(far), 2e-3);
        EXPECT_NEAR(near / far, 1.0 / 64.0, 3e-4);
    }
}

TEST(BlockScoreLawTest, BadShapesAreRefused) {
    EXPECT_THROW(BlockScoreLaw(1, 16), InputError);
    EXPECT_THROW(BlockScoreLaw(64, 0), InputError);
}

}  // namespace
}  // namespace mobalab::analysis
