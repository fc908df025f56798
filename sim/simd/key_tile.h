#pragma once

#include <cstring>
#include <utility>

#include "sim/simd/key_tile_layout.h"
#include "sim/simd/philox_tile.h"

namespace mobalab::sim::MOBALAB_SIMD {

/// The low halves of a register of 64-bit lanes.
using HalfU32 __attribute__((vector_size(4 * kLanes))) = std::uint32_t;

/// All rounds of several independent sets of lanes, round by round, so that one's multiplications hide the other's.
template <std::size_t kSets, int... kRound>
MOBALAB_SIM_INLINE void whole_blocks(PhiloxLanes (&sets)[kSets], PhiloxKey key, std::integer_sequence<int, kRound...>) {
    const auto round = [&]<int kNumber>(std::integral_constant<int, kNumber>) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (std::size_t s = 0; s < kSets; ++s) {
            philox_round<kNumber>(sets[s], key);
        }
    };
    (round(std::integral_constant<int, kRound>()), ...);
}

/// Rows first_row .. of a trial as normals, not yet of unit length.
inline void draw_keys(float* coords, std::size_t rows, PhiloxKey key, std::uint64_t trial, std::uint64_t first_row,
                      std::int64_t head_dim) {
    constexpr std::size_t kGroup = KeyTile::kGroup;
    constexpr std::size_t kSets = 2;
    for (std::int64_t quad = 0; quad < quads_of(head_dim); ++quad) {
        float* out = coords + 4 * static_cast<std::size_t>(quad) * KeyTile::kStride + KeyTile::kHalo;
        for (std::size_t group = 0; group < rows; group += kGroup, out += kGroup) {
            alignas(64) std::uint32_t words[4][kGroup];
            for (std::size_t i = 0; i < kGroup; i += kSets * kLanes) {
                PhiloxLanes lanes[kSets];
                for (std::size_t s = 0; s < kSets; ++s) {
                    lanes[s] = {{lane_numbers() + (first_row + group + i + s * kLanes),
                                 all_lanes(static_cast<std::uint64_t>(quad)), all_lanes(trial & kLowHalf),
                                 all_lanes(trial >> 32U)}};
                }
                whole_blocks(lanes, key, std::make_integer_sequence<int, 10>());
                for (std::size_t s = 0; s < kSets; ++s) {
                    for (std::size_t word = 0; word < 4; ++word) {
                        const HalfU32 low = __builtin_convertvector(lanes[s].x[word], HalfU32);
                        std::memcpy(words[word] + i + s * kLanes, &low, sizeof low);
                    }
                }
            }
            for (std::size_t pair = 0; pair < 2; ++pair) {
                for (std::size_t i = 0; i < kGroup; ++i) {
                    const Pair z = normal_pair(words[2 * pair][i], words[2 * pair + 1][i]);
                    out[2 * pair * KeyTile::kStride + i] = z.first;
                    out[(2 * pair + 1) * KeyTile::kStride + i] = z.second;
                }
            }
        }
    }
}

/// dots[i] = row i . direction, squares[i] = |row i|^2.
inline void project_keys(float* dots, float* squares, const float* coords, std::size_t rows, const float* direction,
                         std::int64_t head_dim) {
    constexpr std::size_t kGroup = KeyTile::kGroup;
    for (std::size_t group = 0; group < rows; group += kGroup) {
        float dot[kGroup] = {};
        float square[kGroup] = {};
        const float* x = coords + KeyTile::kHalo + group;
        for (std::int64_t j = 0; j < head_dim; ++j, x += KeyTile::kStride) {
            for (std::size_t i = 0; i < kGroup; ++i) {
                dot[i] += x[i] * direction[j];
                square[i] += x[i] * x[i];
            }
        }
        std::memcpy(dots + group, dot, sizeof dot);
        std::memcpy(squares + group, square, sizeof square);
    }
}

/// Rows replaced by what sim/simd/key_tile_layout.h says.
inline void mix_keys(float* coords, std::size_t rows, const KeyMix& mix, const float* common, const float* query,
                     std::int64_t head_dim) {
    const std::size_t padded = (rows + KeyTile::kGroup - 1) / KeyTile::kGroup * KeyTile::kGroup;
    float* x = coords + KeyTile::kHalo;
    for (std::int64_t j = 0; j < head_dim; ++j, x += KeyTile::kStride) {
        for (std::size_t i = 0; i < padded; ++i) {
            x[i] = mix.own[i] * x[i] + (mix.common[i] * common[j] + mix.query[i] * query[j]);
        }
    }
}

/// Adds one coordinate of the convolved keys of a group, times the query's; lags are summed newest key first.
template <bool kSilu>
MOBALAB_SIM_INLINE void convolved_dots(float (&dot)[KeyTile::kGroup], const float* x, float q,
                                       const TileConvolution& convolution) {
    float z[KeyTile::kGroup];
    for (std::size_t i = 0; i < KeyTile::kGroup; ++i) {
        z[i] = x[i];
    }
    for (std::int64_t lag = 1; lag < convolution.width; ++lag) {
        for (std::size_t i = 0; i < KeyTile::kGroup; ++i) {
            z[i] += x[static_cast<std::ptrdiff_t>(i) - lag];
        }
    }
    for (std::size_t i = 0; i < KeyTile::kGroup; ++i) {
        const float lagged = convolution.tap * z[i];
        dot[i] += (x[i] + (kSilu ? silu(lagged) : lagged)) * q;
    }
}

/// affinities[i] = query . k'_i, k' the convolved key of row i; the rows before the first stand in the tile's halo.
inline void convolved_affinities(float* affinities, const float* coords, std::size_t rows, const float* query,
                                 std::int64_t head_dim, const TileConvolution& convolution) {
    for (std::size_t group = 0; group < rows; group += KeyTile::kGroup) {
        float dot[KeyTile::kGroup] = {};
        const float* x = coords + KeyTile::kHalo + group;
        for (std::int64_t j = 0; j < head_dim; ++j, x += KeyTile::kStride) {
            if (convolution.width == 0) {
                for (std::size_t i = 0; i < KeyTile::kGroup; ++i) {
                    dot[i] += x[i] * query[j];
                }
            } else if (convolution.silu) {
                convolved_dots<true>(dot, x, query[j], convolution);
            } else {
                convolved_dots<false>(dot, x, query[j], convolution);
            }
        }
        std::memcpy(affinities + group, dot, sizeof dot);
    }
}

/// The larger or smaller of two numbers that are none but numbers.
template <bool kMaximum>
MOBALAB_SIM_INLINE float extreme_of(float a, float b) {
    return kMaximum ? (a > b ? a : b) : (a < b ? a : b);
}

/// The extreme of a channel's summary and rows [begin, end); the same number in any order.
template <bool kMaximum>
MOBALAB_SIM_INLINE float extreme_of_rows(float summary, const float* x, std::size_t begin, std::size_t end) {
    constexpr std::size_t kGroup = KeyTile::kGroup;
    if (end - begin >= kGroup) {
        float lanes[kGroup];
        std::memcpy(lanes, x + begin, sizeof lanes);
        for (begin += kGroup; end - begin >= kGroup; begin += kGroup) {
            for (std::size_t i = 0; i < kGroup; ++i) {
                lanes[i] = extreme_of<kMaximum>(lanes[i], x[begin + i]);
            }
        }
#pragma GCC unroll 4
        for (std::size_t half = kGroup / 2; half > 0; half /= 2) {
            for (std::size_t i = 0; i < half; ++i) {
                lanes[i] = extreme_of<kMaximum>(lanes[i], lanes[i + half]);
            }
        }
        summary = extreme_of<kMaximum>(summary, lanes[0]);
    }
    for (; begin < end; ++begin) {
        summary = extreme_of<kMaximum>(summary, x[begin]);
    }
    return summary;
}

/// Takes rows [begin, end) of a tile into the summary of every channel; what is summed (Summary::mean) in their order.
inline void summarise_keys(float* summary, analysis::Summary kind, const float* coords, std::size_t begin,
                           std::size_t end, std::int64_t head_dim) {
    const float* x = coords + KeyTile::kHalo;
    for (std::int64_t j = 0; j < head_dim; ++j, x += KeyTile::kStride) {
        if (kind == analysis::Summary::maximum) {
            summary[j] = extreme_of_rows<true>(summary[j], x, begin, end);
        } else if (kind == analysis::Summary::minimum) {
            summary[j] = extreme_of_rows<false>(summary[j], x, begin, end);
        } else {
            for (std::size_t i = begin; i < end; ++i) {
                summary[j] += x[i];
            }
        }
    }
}

}  // namespace mobalab::sim::MOBALAB_SIMD
