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
    float minus_two_log;     ///< -2 ln U with U = |int32(w) + 1/2| / 2^31; absolute error below 2e-6, always > 0
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

}  // namespace mobalab::sim
