// Accuracy of the transforms over their whole domain: each is a deterministic function of 32-bit words.
#include "sim/streams/transforms.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <numbers>

#include "tests/sim/statistics.h"

namespace mobalab::sim {
namespace {

using testing::kSlower;

/// Calls f for both ends, the middle (the smallest radii and largest) and evenly between.
template <class F>
void for_many_words(std::uint64_t stride, F f) {
    stride *= kSlower;
    for (std::uint64_t word = 0; word < std::uint64_t{1} << 32U; word += stride) {
        f(static_cast<std::uint32_t>(word));
    }
    for (const std::uint32_t centre : {0U, 0x80000000U}) {
        for (std::uint32_t offset = 0; offset < 30'000; ++offset) {
            f(centre + offset);
            f(centre - offset);
        }
    }
}

TEST(Transforms, log_radius_is_right_for_every_word) {
    double worst = 0.0;
    float smallest = INFINITY;
    std::int64_t negative = 0;
    std::int64_t words = 0;
    for_many_words(257, [&](std::uint32_t word) {
        const RadiusWord got = radius_word(word);
        const double u = std::abs(static_cast<double>(static_cast<std::int32_t>(word)) + 0.5) * 0x1p-31;
        const double exact = -2.0 * std::log(u);
        worst = std::fmax(worst, std::abs(static_cast<double>(got.minus_two_log) - exact) / (1.0 + 0.1 * exact));
        smallest = std::fmin(smallest, got.minus_two_log);
        negative += got.sign_bit != 0 ? 1 : 0;
        ++words;
    });
    EXPECT_LT(worst, 1.5e-6);
    EXPECT_GT(smallest, 0.0F) << "the square root must never see a negative number";
    EXPECT_NEAR(static_cast<double>(negative) / static_cast<double>(words), 0.5, 1e-6);
}

TEST(Transforms, half_turn_is_right_for_every_word) {
    double worst = 0.0;
    double worst_norm = 0.0;
    for_many_words(257, [&](std::uint32_t word) {
        const float x = half_turn(word);
        const double c = half_turn_cos(x);
        const double s = half_turn_sin(x);
        const double angle = std::numbers::pi * static_cast<double>(static_cast<std::int32_t>(word)) * 0x1p-32;
        worst = std::fmax(worst, std::hypot(c - std::cos(angle), s - std::sin(angle)));
        worst_norm = std::fmax(worst_norm, std::abs(c * c + s * s - 1.0));
    });
    EXPECT_LT(worst, 5e-7);
    EXPECT_LT(worst_norm, 1e-6);
}

TEST(Transforms, one_minus_exp2_neg_keeps_its_digits) {
    double worst = 0.0;
    for (double z = 1e-12; z < 126.0; z *= 1.00001) {
        const auto x = static_cast<float>(z);
        const double exact = -std::expm1(-static_cast<double>(x) * std::numbers::ln2);
        worst = std::fmax(worst, std::abs(static_cast<double>(one_minus_exp2_neg(x)) / exact - 1.0));
    }
    EXPECT_LT(worst, 2e-7);
    EXPECT_EQ(one_minus_exp2_neg(0.0F), 0.0F);
}

TEST(Transforms, silu_is_the_formula) {
    double worst = 0.0;
    for (double z = 1e-12; z < 80.0; z *= 1.0001) {
        for (const double x : {z, -z}) {
            const double exact = x / (1.0 + std::exp(-x));
            const auto got = static_cast<double>(silu(static_cast<float>(x)));
            worst = std::fmax(worst, std::abs(got - exact) / z);
        }
    }
    EXPECT_LT(worst, 4e-7);
    EXPECT_EQ(silu(0.0F), 0.0F);
}

TEST(Transforms, affinity_is_the_formula) {
    for (const std::int64_t head_dim : {2, 3, 4, 16, 64, 256, 4096}) {
        const float exponent = affinity_exponent(head_dim);
        double worst = 0.0;
        std::uint32_t other = 1;
        for_many_words(8191, [&](std::uint32_t word) {
            other = other * 1664525U + 1013904223U;
            const double f = static_cast<double>(static_cast<std::int32_t>(word)) + 0.5;
            const double u = std::abs(f) * 0x1p-31;
            const double power = head_dim == 2 ? 0.0 : std::pow(u, 2.0 / static_cast<double>(head_dim - 2));
            const double angle = std::numbers::pi * static_cast<double>(static_cast<std::int32_t>(other)) * 0x1p-32;
            const double exact = std::copysign(std::sqrt(1.0 - power) * std::cos(angle), f);
            const double got = static_cast<double>(affinity(word, other, exponent)) * 0x1p-30;
            worst = std::fmax(worst, std::abs(got - exact));
        });
        // Near u = 1 the radius is the root of a difference that is as small as the error of the logarithm.
        EXPECT_LT(worst, 2e-3 / std::sqrt(static_cast<double>(head_dim))) << "head_dim " << head_dim;
    }
}

}  // namespace
}  // namespace mobalab::sim
