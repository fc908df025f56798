#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "sim/streams/transforms.h"

/// Vector registers, with the operators of the GCC and Clang vector extension. Every header of this folder is compiled
/// once an instruction set, into a namespace of its own (MOBALAB_SIMD, named by the including .cc), so that the linker
/// never takes one set's code for another's. The width changes how much is computed at once, never what.
#if !defined(MOBALAB_SIMD)
#error "included by the instruction set files of this folder only"
#endif

namespace mobalab::sim::MOBALAB_SIMD {

/// 64-bit lanes of one register.
#if defined(__AVX512F__)
inline constexpr std::size_t kLanes = 8;
#elif defined(__AVX2__)
inline constexpr std::size_t kLanes = 4;
#else
inline constexpr std::size_t kLanes = 2;
#endif

using U64 __attribute__((vector_size(8 * kLanes))) = std::uint64_t;
using U32 __attribute__((vector_size(8 * kLanes))) = std::uint32_t;
using I32 __attribute__((vector_size(8 * kLanes))) = std::int32_t;
using U16 __attribute__((vector_size(8 * kLanes))) = std::uint16_t;
using F32 __attribute__((vector_size(8 * kLanes))) = float;

/// Lane by lane, low 32 bits of a times low 32 bits of b. Written with intrinsics: from the plain expression g++ 12
/// makes a full 64-bit multiply, which halves the rate of the generator.
MOBALAB_SIM_INLINE U64 multiply_low_halves(U64 a, U64 b) {
#if defined(__AVX512F__)
    // The masked form, with every lane on: g++ 12 warns about its own header for the plain one (GCC PR 105593).
    return reinterpret_cast<U64>(
        _mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
    return reinterpret_cast<U64>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
    return reinterpret_cast<U64>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
    return (a & 0xffffffffU) * (b & 0xffffffffU);
#endif
}

/// The low halves of the lanes of two registers, side by side: a's in the even, b's in the odd 32-bit lanes.
MOBALAB_SIM_INLINE U32 pack_low_halves(U64 a, U64 b) {
#if defined(__AVX512F__)
    return reinterpret_cast<U32>(
        _mm512_mask_shuffle_epi32(reinterpret_cast<__m512i>(a), 0xaaaa, reinterpret_cast<__m512i>(b), _MM_PERM_CCAA));
#elif defined(__AVX2__)
    return reinterpret_cast<U32>(
        _mm256_blend_epi32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b << 32U), 0xaa));
#else
    return reinterpret_cast<U32>((a & 0xffffffffU) | (b << 32U));
#endif
}

/// The high halves likewise.
MOBALAB_SIM_INLINE U32 pack_high_halves(U64 a, U64 b) {
#if defined(__AVX512F__)
    return reinterpret_cast<U32>(
        _mm512_mask_shuffle_epi32(reinterpret_cast<__m512i>(b), 0x5555, reinterpret_cast<__m512i>(a), _MM_PERM_DDBB));
#elif defined(__AVX2__)
    return reinterpret_cast<U32>(
        _mm256_blend_epi32(reinterpret_cast<__m256i>(a >> 32U), reinterpret_cast<__m256i>(b), 0xaa));
#else
    return reinterpret_cast<U32>((a >> 32U) | (b & ~std::uint64_t{0xffffffffU}));
#endif
}

/// The same value in every lane.
MOBALAB_SIM_INLINE U64 all_lanes(std::uint64_t value) {
    return U64{} + value;
}

/// 0, 1, 2, ...
MOBALAB_SIM_INLINE U64 lane_numbers() {
    U64 lanes{};
    for (std::size_t i = 0; i < kLanes; ++i) {
        lanes[i] = i;
    }
    return lanes;
}

}  // namespace mobalab::sim::MOBALAB_SIMD

namespace mobalab::sim {

template <>
struct Ops<MOBALAB_SIMD::F32> {
    using F32 = MOBALAB_SIMD::F32;
    using Word = MOBALAB_SIMD::U32;
    using Int = MOBALAB_SIMD::I32;
    static constexpr std::size_t kWidth = 2 * MOBALAB_SIMD::kLanes;

    static MOBALAB_SIM_INLINE F32 all(float x) { return F32{} + x; }
    static MOBALAB_SIM_INLINE F32 of_int(Int x) { return __builtin_convertvector(x, F32); }
    static MOBALAB_SIM_INLINE Int to_int(F32 x) { return __builtin_convertvector(x, Int); }
    static MOBALAB_SIM_INLINE Int signed_of(Word x) { return reinterpret_cast<Int>(x); }
    static MOBALAB_SIM_INLINE Int all_int(std::int32_t x) { return Int{} + x; }
    static MOBALAB_SIM_INLINE Int smaller(Int a, Int b) { return a < b ? a : b; }
    static MOBALAB_SIM_INLINE Word unsigned_of(Int x) { return reinterpret_cast<Word>(x); }
    static MOBALAB_SIM_INLINE Word bits(F32 x) { return reinterpret_cast<Word>(x); }
    static MOBALAB_SIM_INLINE F32 of_bits(Word x) { return reinterpret_cast<F32>(x); }

    static MOBALAB_SIM_INLINE F32 exponent(F32 x) {
#if defined(__AVX512F__)
        return reinterpret_cast<F32>(_mm512_maskz_getexp_ps(0xffff, reinterpret_cast<__m512>(x)));
#else
        return of_int(signed_of((bits(x) & 0x7fffffffU) >> 23U) - 127);
#endif
    }

    static MOBALAB_SIM_INLINE F32 mantissa(F32 x) {
#if defined(__AVX512F__)
        return reinterpret_cast<F32>(
            _mm512_maskz_getmant_ps(0xffff, reinterpret_cast<__m512>(x), _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero));
#else
        return of_bits((bits(x) & 0x007fffffU) | 0x3f800000U);
#endif
    }

    static MOBALAB_SIM_INLINE F32 fma(F32 a, F32 b, F32 c) {
#if defined(__AVX512F__)
        return reinterpret_cast<F32>(
            _mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif defined(__FMA__)
        return reinterpret_cast<F32>(
            _mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
#else
        F32 result{};
        for (std::size_t i = 0; i < kWidth; ++i) {
            result[i] = std::fma(a[i], b[i], c[i]);
        }
        return result;
#endif
    }

    static MOBALAB_SIM_INLINE F32 sqrt(F32 x) {
#if defined(__AVX512F__)
        return reinterpret_cast<F32>(_mm512_maskz_sqrt_ps(0xffff, reinterpret_cast<__m512>(x)));
#elif defined(__AVX2__)
        return reinterpret_cast<F32>(_mm256_sqrt_ps(reinterpret_cast<__m256>(x)));
#else
        F32 result{};
        for (std::size_t i = 0; i < kWidth; ++i) {
            result[i] = std::sqrt(x[i]);
        }
        return result;
#endif
    }
};

}  // namespace mobalab::sim
