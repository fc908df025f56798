#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

/// Functions of random words whose bits are the same on every machine: integer operations, +, -, *, fused multiply-add,
/// division and square root alone, each rounded as IEEE 754 says (build with -ffp-contract=off; nvcc with
/// --fmad=false). One source for one number at a time, for vector registers (sim/simd/lanes.h) and for CUDA.
///
/// Always inlined: the same function is compiled for several instruction sets, and no copy may be shared by them.
#if defined(__CUDACC__)
#define MOBALAB_SIM_INLINE __host__ __device__ __forceinline__
#else
#define MOBALAB_SIM_INLINE __attribute__((always_inline)) inline
#endif

namespace mobalab::sim {

/// The operations the transforms are made of, for a float; lanes.h has those of vectors of floats.
template <class Float>
struct Ops;

template <>
struct Ops<float> {
    using Word = std::uint32_t;
    using Int = std::int32_t;

    static MOBALAB_SIM_INLINE float all(float x) { return x; }
    static MOBALAB_SIM_INLINE float of_int(Int x) { return static_cast<float>(x); }
    static MOBALAB_SIM_INLINE Int to_int(float x) { return static_cast<Int>(x); }  ///< towards zero
    static MOBALAB_SIM_INLINE Int signed_of(Word x) { return static_cast<Int>(x); }
    static MOBALAB_SIM_INLINE Int all_int(Int x) { return x; }
    static MOBALAB_SIM_INLINE Word unsigned_of(Int x) { return static_cast<Word>(x); }
    static MOBALAB_SIM_INLINE Word bits(float x) { return std::bit_cast<Word>(x); }
    static MOBALAB_SIM_INLINE float of_bits(Word x) { return std::bit_cast<float>(x); }
    static MOBALAB_SIM_INLINE Int smaller(Int a, Int b) { return a < b ? a : b; }
    static MOBALAB_SIM_INLINE float fma(float a, float b, float c) { return std::fma(a, b, c); }

    /// Of a normal number x = +- m 2^e: e, and m in [1, 2).
    static MOBALAB_SIM_INLINE float exponent(float x) {
        return of_int(signed_of((bits(x) & 0x7fffffffU) >> 23U) - 127);
    }
    static MOBALAB_SIM_INLINE float mantissa(float x) { return of_bits((bits(x) & 0x007fffffU) | 0x3f800000U); }

    /// The root of a number in [1e-7, 1e3], correctly rounded. On the device: the fast path of sqrt.rn, which is right
    /// for every float in that range (tests/sim/cuda/cuda_engine_test.cc tries them all).
    static MOBALAB_SIM_INLINE float sqrt(float x) {
#if defined(__CUDA_ARCH__)
        float y;
        asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
        const float root = __fmul_rn(x, y);
        return __fmaf_rn(__fmaf_rn(-root, root, x), __fmul_rn(y, 0.5F), root);
#else
        return std::sqrt(x);
#endif
    }
};

template <class Float>
struct PairOf {
    Float first;
    Float second;
};
using Pair = PairOf<float>;

/// A uniform in (0, 1] and a random sign from one word, in the form all samplers need.
template <class Float>
struct RadiusWordOf {
    Float minus_two_log;  ///< -2 ln U, U = |int32(w) + 1/2| / 2^31; error below 1.5e-6 + 1.5e-7 of it; > 0
    typename Ops<Float>::Word sign_bit;  ///< bit 31: the random sign, to be xored into a float
};
using RadiusWord = RadiusWordOf<float>;

/// Coefficients of radius_word(): -2 L(t), L of degree 8, and -2 ln 2 for each step of the exponent.
inline constexpr float kLog8 = 0.01259990062F;
inline constexpr float kLog7 = -0.02048778353F;
inline constexpr float kLog6 = 0.02852820861F;
inline constexpr float kLog5 = -0.05193460443F;
inline constexpr float kLog4 = 0.09884243513F;
inline constexpr float kLog3 = -0.19758351F;
inline constexpr float kLog2 = 0.4444415766F;
inline constexpr float kLog1 = -1.333332332F;
inline constexpr float kLogStep = -1.3862943611198906F;

/// Of half_turn_cos() and half_turn_sin(), by powers of x.
inline constexpr float kCos8 = 0.2196967987F;
inline constexpr float kCos6 = -1.331880163F;
inline constexpr float kCos4 = 4.058411915F;
inline constexpr float kCos2 = -4.934792859F;
inline constexpr float kCos0 = 0.9999999995F;
inline constexpr float kSin9 = 0.07765940834F;
inline constexpr float kSin7 = -0.59829216F;
inline constexpr float kSin5 = 2.55007766F;
inline constexpr float kSin3 = -5.16771009F;
inline constexpr float kSin1 = 3.14159264F;

/// 31 * 2 ln 2 - 2 ln 1.5 + 6e-7.
inline constexpr float kRadiusBias = static_cast<float>(31 * 1.3862943611198906 - 0.8109301985 + 6e-7);

/// ln from exponent and mantissa: ln U = e ln 2 + ln(1.5) + L(t), t = mantissa - 1.5, L of degree 8. The bias of 6e-7
/// keeps the result positive at U = 1.
template <class Float = float>
MOBALAB_SIM_INLINE RadiusWordOf<Float> radius_word(typename Ops<Float>::Word word) {
    using O = Ops<Float>;
    const Float f = O::of_int(O::signed_of(word)) + 0.5F;
    const Float e = O::exponent(f);
    const Float t = O::mantissa(f) - 1.5F;
    Float p = O::all(kLog8);
    p = O::fma(p, t, O::all(kLog7));
    p = O::fma(p, t, O::all(kLog6));
    p = O::fma(p, t, O::all(kLog5));
    p = O::fma(p, t, O::all(kLog4));
    p = O::fma(p, t, O::all(kLog3));
    p = O::fma(p, t, O::all(kLog2));
    p = O::fma(p, t, O::all(kLog1));
    return {O::fma(p, t, O::fma(e, O::all(kLogStep), O::all(kRadiusBias))), O::bits(f) & 0x80000000U};
}

/// cos(pi x), x = int32(word) / 2^32 in [-1/2, 1/2): half a turn, the sign of the radius covers the other half.
template <class Float>
MOBALAB_SIM_INLINE Float half_turn_cos(Float x) {
    using O = Ops<Float>;
    const Float y = x * x;
    Float c = O::all(kCos8);
    c = O::fma(c, y, O::all(kCos6));
    c = O::fma(c, y, O::all(kCos4));
    c = O::fma(c, y, O::all(kCos2));
    return O::fma(c, y, O::all(kCos0));
}

/// sin(pi x), same x.
template <class Float>
MOBALAB_SIM_INLINE Float half_turn_sin(Float x) {
    using O = Ops<Float>;
    const Float y = x * x;
    Float s = O::all(kSin9);
    s = O::fma(s, y, O::all(kSin7));
    s = O::fma(s, y, O::all(kSin5));
    s = O::fma(s, y, O::all(kSin3));
    return O::fma(s, y, O::all(kSin1)) * x;
}

template <class Float = float>
MOBALAB_SIM_INLINE Float half_turn(typename Ops<Float>::Word word) {
    return Ops<Float>::of_int(Ops<Float>::signed_of(word)) * 0x1p-32F;
}

template <class Float>
MOBALAB_SIM_INLINE Float flip_sign(Float x, typename Ops<Float>::Word sign_bit) {
    return Ops<Float>::of_bits(Ops<Float>::bits(x) ^ sign_bit);
}

/// Two independent standard normals r (cos, sin) from two words (Box and Muller 1958), in polar form.
template <class Float>
struct PolarPairOf {
    Float squared_radius;  ///< > 0
    Float radius;          ///< with a random sign
    Float cos;
    Float sin;
};

template <class Float = float>
MOBALAB_SIM_INLINE PolarPairOf<Float> polar_normal_pair(typename Ops<Float>::Word w0, typename Ops<Float>::Word w1) {
    const RadiusWordOf<Float> word = radius_word<Float>(w0);
    const Float r = flip_sign(Ops<Float>::sqrt(word.minus_two_log), word.sign_bit);
    const Float x = half_turn<Float>(w1);
    return {word.minus_two_log, r, half_turn_cos(x), half_turn_sin(x)};
}

/// The same two as numbers. |z| <= 6.67 (31-bit radius).
template <class Float = float>
MOBALAB_SIM_INLINE PairOf<Float> normal_pair(typename Ops<Float>::Word w0, typename Ops<Float>::Word w1) {
    const PolarPairOf<Float> polar = polar_normal_pair<Float>(w0, w1);
    return {polar.radius * polar.cos, polar.radius * polar.sin};
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

/// x / (1 + e^-x) for |x| <= 80, error below 4e-7 |x| + 1e-30: e^-|x| = 2^-z by one_minus_exp2_neg(), and
/// silu(-x) = e^-x silu(x).
MOBALAB_SIM_INLINE float silu(float x) {
    const float magnitude = std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & 0x7fffffffU);
    const float e = 1.0F - one_minus_exp2_neg(magnitude * 1.44269504F);
    return (x < 0.0F ? x * e : x) / (1.0F + e);
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
