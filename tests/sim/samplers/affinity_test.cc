#include "sim/samplers/affinity.h"

#include <gtest/gtest.h>

#include <boost/math/distributions/beta.hpp>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "analysis/binomial_interval.h"
#include "sim/streams/transforms.h"
#include "tests/sim/statistics.h"

namespace mobalab::sim {
namespace {

using testing::kFalseAlarm;
using testing::kMaxZ;
using testing::kSlower;

/// (1 + t) / 2 ~ Beta((d - 1) / 2, (d - 1) / 2) for one coordinate t of a uniform unit vector in d dimensions.
boost::math::beta_distribution<double> beta_law(std::int64_t head_dim) {
    const double shape = 0.5 * static_cast<double>(head_dim - 1);
    return {shape, shape};
}

double affinity_cdf(std::int64_t head_dim, double t) {
    return boost::math::cdf(beta_law(head_dim), std::fmin(std::fmax(0.5 * (1.0 + t), 0.0), 1.0));
}

std::vector<double> affinities(std::size_t count, std::int64_t head_dim, std::uint64_t seed) {
    std::vector<std::int32_t> steps(count);
    fill_affinities(steps.data(), count, stream_key(seed, static_cast<std::uint64_t>(head_dim)), 5, 0,
                    affinity_exponent(head_dim));
    std::vector<double> t(count);
    for (std::size_t i = 0; i < count; ++i) {
        t[i] = static_cast<double>(steps[i]) * 0x1p-30;
    }
    return t;
}

class AffinityLaw : public ::testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(head_dims, AffinityLaw, ::testing::Values(2, 3, 4, 5, 7, 16, 64, 128, 256, 4096));

// False alarm 1e-9 a dimension. A scale off by 1.5 % (3 % in variance; 6 % under sanitizers) must fail the same test.
TEST_P(AffinityLaw, is_the_beta_law_and_a_biased_one_is_caught) {
    const std::int64_t head_dim = GetParam();
    std::vector<double> t = affinities((std::size_t{1} << 22U) / kSlower, head_dim, testing::test_seed());
    const std::span<const double> samples = t;
    const double range = std::fmin(1.0, 7.0 / std::sqrt(static_cast<double>(head_dim)));
    const auto cdf = [&](double x) { return affinity_cdf(head_dim, x); };
    const double bound = testing::dkw_bound(t.size());
    EXPECT_LT(testing::distance_from(samples, -range, range, cdf), bound);
    for (double& x : t) {
        x *= kSlower == 1 ? 1.015 : 1.06;
    }
    EXPECT_GT(testing::distance_from(samples, -range, range, cdf), bound) << "the test has no power";
}

// E t^2 = 1/d, E t^4 = 3/(d(d+2)); false alarm 1e-9 each. A variance off by 0.4 % is found; off by 5 % must fail.
TEST_P(AffinityLaw, moments) {
    const std::int64_t head_dim = GetParam();
    const auto d = static_cast<double>(head_dim);
    const std::vector<double> t = affinities((std::size_t{1} << 22U) / kSlower, head_dim, testing::test_seed() + 1);
    const std::span<const double> samples = t;
    const auto n = static_cast<double>(t.size());
    const double m2 = 1.0 / d;
    const double m4 = m2 * 3.0 / (d + 2);
    const double m6 = m4 * 5.0 / (d + 4);
    const double m8 = m6 * 7.0 / (d + 6);
    const double first = testing::mean_of(samples, [](double x) { return x; });
    const double second = testing::mean_of(samples, [](double x) { return x * x; });
    const double fourth = testing::mean_of(samples, [](double x) { return x * x * x * x; });
    EXPECT_LT(std::abs(first) / std::sqrt(m2 / n), kMaxZ);
    EXPECT_LT(std::abs(second - m2) / std::sqrt((m4 - m2 * m2) / n), kMaxZ);
    EXPECT_LT(std::abs(fourth - m4) / std::sqrt((m8 - m4 * m4) / n), kMaxZ);
    EXPECT_GT(std::abs(1.05 * second - m2) / std::sqrt((m4 - m2 * m2) / n), kMaxZ) << "the test has no power";
}

// Exact binomial tests at tail probabilities 1e-3, 1e-5 and 1e-6, false alarm 1e-9 each. Where the quantile is nearer
// to 1 than the spacing of floats allows to judge (the arcsine law), it is left out.
TEST_P(AffinityLaw, tails) {
    const std::int64_t head_dim = GetParam();
    std::vector<double> probabilities;
    std::vector<double> bounds;
    for (const double p : {1e-3, 1e-5, 1e-6}) {
        const double bound = 2.0 * boost::math::quantile(boost::math::complement(beta_law(head_dim), p)) - 1.0;
        if (bound < 1.0 - 1e-6) {
            probabilities.push_back(p);
            bounds.push_back(bound);
        }
    }
    ASSERT_FALSE(bounds.empty());
    constexpr std::size_t kCount = 1 << 20;
    const std::uint64_t rounds = 16 / kSlower;
    const PhiloxKey key = stream_key(testing::test_seed(), static_cast<std::uint64_t>(head_dim));
    std::vector<std::int32_t> steps(kCount);
    std::vector<double> beyond(bounds.size());
    for (std::uint64_t round = 0; round < rounds; ++round) {
        fill_affinities(steps.data(), kCount, key, round, 0, affinity_exponent(head_dim));
        for (std::size_t b = 0; b < bounds.size(); ++b) {
            for (const std::int32_t step : steps) {
                beyond[b] += static_cast<double>(step) * 0x1p-30 > bounds[b] ? 1.0 : 0.0;
            }
        }
    }
    for (std::size_t b = 0; b < bounds.size(); ++b) {
        const double p = probabilities[b];
        EXPECT_GT(analysis::binomial_two_sided_p(beyond[b], static_cast<double>(rounds * kCount), std::log(p),
                                                 std::log1p(-p)),
                  kFalseAlarm)
            << beyond[b] << " beyond t = " << bounds[b];
    }
}

TEST(Affinity, any_cut_gives_the_same_numbers) {
    const PhiloxKey key{3, 4};
    const float exponent = affinity_exponent(64);
    std::vector<std::int32_t> whole(1024);
    fill_affinities(whole.data(), whole.size(), key, 1, 0, exponent);
    for (std::size_t i = 0; i < whole.size(); ++i) {
        const auto w = philox_block(key, 1, i / 2);
        const std::size_t pair = i % 2;
        ASSERT_EQ(whole[i], affinity(w[2 * pair], w[2 * pair + 1], exponent)) << i;
    }
    for (const std::size_t cut : {16U, 128U, 144U, 1008U}) {
        std::vector<std::int32_t> parts(whole.size());
        fill_affinities(parts.data(), cut, key, 1, 0, exponent);
        fill_affinities(parts.data() + cut, parts.size() - cut, key, 1, cut, exponent);
        EXPECT_EQ(parts, whole) << "cut at " << cut;
    }
}

// The same bits on every machine and instruction set.
TEST(Affinity, bits_are_pinned) {
    std::vector<std::int32_t> steps(1 << 14);
    std::uint64_t hash = 0;
    for (const std::int64_t head_dim : {2, 3, 4, 64, 256}) {
        fill_affinities(steps.data(), steps.size(), PhiloxKey{1, 2}, 3, 0, affinity_exponent(head_dim));
        hash ^= testing::hash_of(std::span<const std::int32_t>(steps));
    }
    EXPECT_EQ(hash, 6940319701054176578U);
}

}  // namespace
}  // namespace mobalab::sim
