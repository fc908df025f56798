#pragma once

#include <cstring>

#include "sim/simd/philox_tile.h"
#include "sim/tables/score_table.h"

namespace mobalab::sim::MOBALAB_SIMD {

/// table[octave] lane by lane.
MOBALAB_SIM_INLINE F32 lookup(const float* table, I32 octave) {
#if defined(__AVX512F__)
    return reinterpret_cast<F32>(
        _mm512_permutex2var_ps(_mm512_load_ps(table), reinterpret_cast<__m512i>(octave), _mm512_load_ps(table + 16)));
#else
    F32 result{};
    for (std::size_t i = 0; i < 2 * kLanes; ++i) {
        result[i] = table[octave[i]];
    }
    return result;
#endif
}

/// out[4 i + j] = table_score() of word j of draw first_draw + i; whole tiles of kScoreTile scores, first_draw a
/// multiple of kScoreTile / 4.
inline void fill_scores(float* out, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                        std::uint64_t first_draw, const ScoreTable& table) {
    constexpr std::size_t kBlocks = kScoreTile / 4;
    const auto look = [&](std::size_t power, I32 octave) { return lookup(table.c[power], octave); };
    for (; count > 0; count -= kScoreTile, out += kScoreTile, first_draw += kBlocks) {
        PhiloxTile<kBlocks> tile;
        fill_tile(tile, key, subsequence, first_draw);
        for (std::size_t i = 0; i < 2 * kBlocks; i += 2 * kLanes) {
            U32 first;
            U32 second;
            std::memcpy(&first, tile.first + i, sizeof first);
            std::memcpy(&second, tile.second + i, sizeof second);
            const F32 even = table_score<F32>(first, look);
            const F32 odd = table_score<F32>(second, look);
            for (std::size_t lane = 0; lane < 2 * kLanes; ++lane) {
                out[2 * (i + lane)] = even[lane];
                out[2 * (i + lane) + 1] = odd[lane];
            }
        }
    }
}

}  // namespace mobalab::sim::MOBALAB_SIMD
