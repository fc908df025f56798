#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace mobalab::sim {

/// 64-bit lanes of one vector register, with the operators of the GCC and Clang vector extension. The width changes how
/// many blocks are computed at once, never what they are.
#if defined(__AVX512F__)
inline constexpr std::size_t kLanes = 8;
#elif defined(__AVX2__)
inline constexpr std::size_t kLanes = 4;
#else
inline constexpr std::size_t kLanes = 2;
#endif

using Lanes __attribute__((vector_size(8 * kLanes))) = std::uint64_t;

/// Lane by lane, low 32 bits of a times low 32 bits of b. The one operation written with intrinsics: from the plain
/// expression g++ 12 makes a full 64-bit multiply, which halves the rate of the generator.
inline Lanes multiply_low_halves(Lanes a, Lanes b) {
#if defined(__AVX512F__)
    // The masked form, with every lane on: g++ 12 warns about its own header for the plain one (GCC PR 105593).
    return reinterpret_cast<Lanes>(
        _mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
    return reinterpret_cast<Lanes>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
    return reinterpret_cast<Lanes>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
    return (a & 0xffffffffU) * (b & 0xffffffffU);
#endif
}

/// The same value in every lane.
inline Lanes all_lanes(std::uint64_t value) {
    return Lanes{} + value;
}

/// 0, 1, 2, ...
inline Lanes lane_numbers() {
    Lanes lanes{};
    for (std::size_t i = 0; i < kLanes; ++i) {
        lanes[i] = i;
    }
    return lanes;
}

}  // namespace mobalab::sim
