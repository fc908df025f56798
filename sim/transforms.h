#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

/// Functions of random words whose bits are the same on every machine: integer operations, +, -, *, fused multiply-add
/// and square root alone, each rounded as IEEE 754 says (build with -ffp-contract=off; nvcc with --fmad=false). The
/// same source serves as the CUDA twin.
#if defined(__CUDACC__)
#define MOBALAB_SIM_INLINE __host__ __device__ inline
#else
#define MOBALAB_SIM_INLINE inline
#endif

namespace mobalab::sim {

struct Pair {
    float first;
    float second;
};

/// A uniform in (0, 1] and a random sign from one word, in the form both samplers need.
struct RadiusWord {
    float minus_two_log;     ///< -2 ln U, U = |int32(w) + 1/2| / 2^31; error below 1.5e-6 + 1.5e-7 of it; > 0
    std::uint32_t sign_bit;  ///< bit 31: the random sign, to be xored into a float
};

/// ln from exponent and mantissa: ln U = e ln 2 + ln(1.5) + L(t), t = mantissa - 1.5, L of degree 8. The bias of 6e-7
/// keeps the result positive at U = 1.
MOBALAB_SIM_INLINE RadiusWord radius_word(std::uint32_t word) {
    const float f = static_cast<float>(static_cast<std::int32_t>(word)) + 0.5F;
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(f);
    const std::uint32_t magnitude = bits & 0x7fffffffU;
    const float e = static_cast<float>(static_cast<std::int32_t>(magnitude >> 23U) - 127);
    const float t = std::bit_cast<float>((magnitude & 0x007fffffU) | 0x3f800000U) - 1.5F;
    float p = 0.01259990062F;
    p = std::fma(p, t, -0.02048778353F);
    p = std::fma(p, t, 0.02852820861F);
    p = std::fma(p, t, -0.05193460443F);
    p = std::fma(p, t, 0.09884243513F);
    p = std::fma(p, t, -0.19758351F);
    p = std::fma(p, t, 0.4444415766F);
    p = std::fma(p, t, -1.333332332F);
    // 31 * 2 ln 2 - 2 ln 1.5 + 6e-7
    constexpr float kBias = static_cast<float>(31 * 1.3862943611198906 - 0.8109301985 + 6e-7);
    return {std::fma(p, t, std::fma(e, -1.3862943611198906F, kBias)), bits & 0x80000000U};
}

/// cos(pi x), x = int32(word) / 2^32 in [-1/2, 1/2): half a turn, the sign of the radius covers the other half.
MOBALAB_SIM_INLINE float half_turn_cos(float x) {
    const float y = x * x;
    float c = 0.2196967987F;
    c = std::fma(c, y, -1.331880163F);
    c = std::fma(c, y, 4.058411915F);
    c = std::fma(c, y, -4.934792859F);
    return std::fma(c, y, 0.9999999995F);
}

/// sin(pi x), same x.
MOBALAB_SIM_INLINE float half_turn_sin(float x) {
    const float y = x * x;
    float s = 0.07765940834F;
    s = std::fma(s, y, -0.59829216F);
    s = std::fma(s, y, 2.55007766F);
    s = std::fma(s, y, -5.16771009F);
    return std::fma(s, y, 3.14159264F) * x;
}

MOBALAB_SIM_INLINE float half_turn(std::uint32_t word) {
    return static_cast<float>(static_cast<std::int32_t>(word)) * 0x1p-32F;
}

MOBALAB_SIM_INLINE float flip_sign(float x, std::uint32_t sign_bit) {
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) ^ sign_bit);
}

/// Two independent standard normals from two words: Box and Muller 1958. |z| <= 6.67 (31-bit radius).
MOBALAB_SIM_INLINE Pair normal_pair(std::uint32_t w0, std::uint32_t w1) {
    const RadiusWord word = radius_word(w0);
    const float r = flip_sign(std::sqrt(word.minus_two_log), word.sign_bit);
    const float x = half_turn(w1);
    return {r * half_turn_cos(x), r * half_turn_sin(x)};
}

/// 1 - 2^-z for 0 <= z <= 126, relative error below 2e-7 (no cancellation near 0): z = n - f, |f| <= 1/2, and 2^f - 1
/// by its degree-6 interpolant at Chebyshev nodes.
MOBALAB_SIM_INLINE float one_minus_exp2_neg(float z) {
    constexpr float kRound = 0x1.8p23F;  // adding it rounds to an integer, which then sits in the low mantissa bits
    const float shifted = kRound - z;
    const float f = (kRound - shifted) - z;
    float p = 0.0001545316294214853F;
    p = std::fma(p, f, 0.001339086336464892F);
    p = std::fma(p, f, 0.009618082557285924F);
    p = std::fma(p, f, 0.05550357114219124F);
    p = std::fma(p, f, 0.24022650760568087F);
    p = std::fma(p, f, 0.6931471880262288F);
    const float power = std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) << 23U) + 0x3f800000U);
    return std::fma(-power, p * f, 1.0F - power);
}

/// Affinities are counted in steps of 2^-30: block sums are exact 64-bit integers, in any order.
inline constexpr float kAffinityScale = 0x1p30F;

/// What affinity() needs to know of head_dim: log2(e) / (d - 2), or for d = 2 a number large enough to give radius 1.
MOBALAB_SIM_INLINE float affinity_exponent(std::int64_t head_dim) {
    return head_dim == 2 ? 0x1p40F : 1.44269504F / static_cast<float>(head_dim - 2);
}

/// q.k of a unit query and a key uniform on the sphere S^(d-1), in steps of 2^-30: density prop. to
/// (1 - t^2)^((d-3)/2). Two coordinates of such a key form a disc point of radius sqrt(1 - U^(2/(d-2))) at a uniform
/// angle (the other d - 2 coordinates carry a squared length of law Beta((d-2)/2, 1)), so
/// t = sqrt(1 - U^(2/(d-2))) cos(2 pi V): no rejection, no table, any d >= 2 (d = 3: uniform; d = 2: arcsine).
/// Small U, the tail towards |t| = 1, is where floats are dense.
MOBALAB_SIM_INLINE std::int32_t affinity(std::uint32_t w0, std::uint32_t w1, float exponent) {
    const RadiusWord word = radius_word(w0);
    const float z = word.minus_two_log * exponent;
    // Clamped as integers (positive floats sort alike): g++ vectorises this form on every instruction set.
    const std::int32_t bits = std::bit_cast<std::int32_t>(z);
    constexpr std::int32_t kMost = std::bit_cast<std::int32_t>(100.0F);
    const float r = std::sqrt(one_minus_exp2_neg(std::bit_cast<float>(bits < kMost ? bits : kMost)));
    const float t = flip_sign(r * half_turn_cos(half_turn(w1)), word.sign_bit);
    return static_cast<std::int32_t>(t * kAffinityScale);
}

}  // namespace mobalab::sim
