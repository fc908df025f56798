#pragma once

#include <Eigen/Core>
#include <cstdint>

#include "kernels/kernels.h"

// Dense tiles: what the fast path multiplies with Eigen.
namespace mobalab::kernels::cpu {

using Index = std::int64_t;

/// Queries along the columns' contiguous direction: selection and softmax then run over 16 queries at a time.
using ScoreTile = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
/// Rows of tensors.
using RowTile = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Eigen's product kernel has other code (and another order of summation) for the rows and columns left over after its
/// widest register tile, 3 packets (48 floats with AVX-512, 24 with AVX) by 4. Tiles are padded to multiples of these,
/// so a score has the same bits wherever its row and column stand; exact ties stay exact.
inline constexpr Index row_quantum = 48;
inline constexpr Index column_quantum = 8;

/// An odd number of cache lines: columns of a score tile do not fight for the same cache sets.
inline constexpr Index tile_rows = 5 * row_quantum;

inline Index round_up(Index value, Index quantum) {
    return (value + quantum - 1) / quantum * quantum;
}

/// Rows `begin ... begin + count - 1` of one head, times `factor`, followed by zero rows up to `padded` rows.
void load_rows(ConstTensor tensor, DataType dtype, Index begin, Index count, Index head, float factor, Index padded,
               RowTile& tile);

/// The same for rows[0], rows[1], ...
void load_rows(ConstTensor tensor, DataType dtype, const std::int32_t* rows, Index count, Index head, float factor,
               Index padded, RowTile& tile);

}  // namespace mobalab::kernels::cpu
