#include "sim/streams/gaussian.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
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

double normal_cdf(double x) {
    return 0.5 * std::erfc(-x / std::numbers::sqrt2);
}

std::vector<float> normals(std::size_t count, std::uint64_t subsequence) {
    std::vector<float> z(count);
    fill_gaussian(z, stream_key(testing::test_seed(), 0), subsequence);
    return z;
}

TEST(Gaussian, is_the_documented_function_of_the_words) {
    const PhiloxKey key{7, 8};
    std::vector<float> z(1003);
    fill_gaussian(z, key, 9, 10);
    for (std::size_t i = 0; i < z.size(); ++i) {
        const auto w = philox_block(key, 9, 10 + i / 4);
        const std::size_t pair = i % 4 / 2;
        const Pair expected = normal_pair(w[2 * pair], w[2 * pair + 1]);
        ASSERT_EQ(z[i], i % 2 == 0 ? expected.first : expected.second) << i;
    }
}

TEST(Gaussian, any_cut_gives_the_same_numbers) {
    const PhiloxKey key{7, 8};
    constexpr std::uint64_t kFirst = (std::uint64_t{1} << 32U) - 100;  // crosses into the high counter word
    std::vector<float> whole(4096);
    fill_gaussian(whole, key, 1, kFirst);
    for (const std::size_t cut : {4U, 36U, 252U, 256U, 260U, 1024U, 4000U}) {
        std::vector<float> parts(whole.size());
        fill_gaussian(std::span(parts).first(cut), key, 1, kFirst);
        fill_gaussian(std::span(parts).subspan(cut), key, 1, kFirst + cut / 4);
        EXPECT_EQ(parts, whole) << "cut at " << cut;
    }
    std::vector<float> none;
    fill_gaussian(none, key, 1);
    for (const std::size_t count : {1U, 2U, 3U, 5U, 31U, 33U, 255U, 257U}) {
        std::vector<float> start(count);
        fill_gaussian(start, key, 1, kFirst);
        EXPECT_TRUE(std::equal(start.begin(), start.end(), whole.begin())) << "first " << count;
    }
}

// The promise of the same bits on every machine and instruction set: this value was computed with AVX-512, with AVX2
// and with SSE2 and no fused multiply-add in hardware.
TEST(Gaussian, bits_are_pinned) {
    std::vector<float> z(1 << 16);
    fill_gaussian(z, PhiloxKey{1, 2}, 3);
    EXPECT_EQ(testing::hash_of(std::span<const float>(z)), 4054185379795388057U);
}

// False alarm 1e-9. A standard deviation off by 1.1 % is found with probability above 0.999 (5 % under sanitizers).
TEST(Gaussian, distribution_is_normal_and_a_biased_one_is_caught) {
    std::vector<float> z = normals((std::size_t{1} << 22U) / kSlower, 1);
    const std::span<const float> samples = z;
    const double bound = testing::dkw_bound(z.size());
    EXPECT_LT(testing::distance_from(samples, -6, 6, normal_cdf), bound);
    const float wrong_scale = kSlower == 1 ? 1.015F : 1.06F;
    for (float& x : z) {
        x *= wrong_scale;
    }
    EXPECT_GT(testing::distance_from(samples, -6, 6, normal_cdf), bound) << "the test has no power";
}

// Moments 1 to 6, each with a false alarm of 1e-9; a variance off by 0.3 % is found with probability above 0.999.
TEST(Gaussian, moments) {
    const std::vector<float> z = normals((std::size_t{1} << 24U) / kSlower, 2);
    std::array<double, 7> sums{};
    for (const float x : z) {
        double power_of_x = 1.0;
        for (double& sum : sums) {
            sum += power_of_x;
            power_of_x *= static_cast<double>(x);
        }
    }
    const auto n = static_cast<double>(z.size());
    const std::array<double, 7> expected = {1, 0, 1, 0, 3, 0, 15};
    const std::array<double, 7> second = {1, 1, 3, 15, 105, 945, 10395};  // E z^(2k)
    for (std::size_t k = 1; k < sums.size(); ++k) {
        const double z_score = (sums[k] / n - expected[k]) / std::sqrt((second[k] - expected[k] * expected[k]) / n);
        EXPECT_LT(std::abs(z_score), kMaxZ) << "moment " << k << " = " << sums[k] / n;
    }
}

// Neighbours in the stream share words or blocks: values and squares must not be correlated. False alarm 1e-9 each;
// correlations above 3e-3 are found with probability above 0.999.
TEST(Gaussian, neighbours_are_independent) {
    const std::vector<float> z = normals((std::size_t{1} << 22U) / kSlower, 3);
    for (const std::size_t lag : {1U, 2U, 3U, 4U, 8U, 16U, 32U, 256U}) {
        double product = 0.0;
        double squares = 0.0;
        const std::size_t pairs = z.size() - lag;
        for (std::size_t i = 0; i < pairs; ++i) {
            const double x = z[i];
            const double y = z[i + lag];
            product += x * y;
            squares += (x * x - 1.0) * (y * y - 1.0);
        }
        const double scale = 1.0 / std::sqrt(static_cast<double>(pairs));
        EXPECT_LT(std::abs(product * scale), kMaxZ) << "lag " << lag;
        EXPECT_LT(std::abs(squares * scale / 2.0), kMaxZ) << "squares, lag " << lag;
    }
}

// Exact binomial tests, false alarm 1e-9 each. At |z| > 5 (77 expected) a rate 2 times too low or high is found.
TEST(Gaussian, tails) {
    constexpr std::size_t kCount = 1 << 20;
    const std::uint64_t rounds = 128 / kSlower;
    const PhiloxKey key = stream_key(testing::test_seed(), 1);
    std::vector<float> z(kCount);
    const std::vector<double> bounds = {2.0, 3.0, 4.0, 4.5, 5.0};
    std::vector<double> beyond(bounds.size());
    float largest = 0.0F;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        fill_gaussian(z, key, round);
        for (std::size_t b = 0; b < bounds.size(); ++b) {
            const auto bound = static_cast<float>(bounds[b]);
            beyond[b] +=
                static_cast<double>(std::count_if(z.begin(), z.end(), [&](float x) { return std::abs(x) > bound; }));
        }
        largest = std::max(largest, std::abs(*std::max_element(z.begin(), z.end())));
    }
    for (std::size_t b = 0; b < bounds.size(); ++b) {
        const double p = std::erfc(bounds[b] / std::numbers::sqrt2);
        EXPECT_GT(analysis::binomial_two_sided_p(beyond[b], static_cast<double>(rounds * kCount), std::log(p),
                                                 std::log1p(-p)),
                  kFalseAlarm)
            << beyond[b] << " beyond " << bounds[b];
    }
    EXPECT_LT(largest, 6.67F);
}

}  // namespace
}  // namespace mobalab::sim
