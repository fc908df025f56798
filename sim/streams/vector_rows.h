#pragma once

#include <cstdint>
#include <span>

#include "sim/streams/philox.h"

namespace mobalab::sim {

/// The model with real vectors, as a stream. Row 0 of a trial is the query, row 1 + t the key of token t; coordinates
/// 4j .. 4j+3 of row r are the four normals of draw (j << 32) + r. So a machine that takes one row a lane finds most of
/// three Philox rounds shared by all j or by all lanes.
///
/// Rows are in polar form: the squared norm is the sum of the squared radii (sim/streams/transforms.h), and two fp32
/// partial sums run over j, one of coordinates 4j, 4j+1, one of 4j+2, 4j+3, added at the end.

/// What all keys of a trial share at quad j.
struct QuadOperands {
    std::uint64_t x2;      ///< uniform part of counter word 2 after two rounds
    std::uint64_t x3;      ///< counter word 3 after two rounds
    float even_coords[2];  ///< unit query, coordinates 4j and 4j+2; 0 beyond head_dim
    float odd_coords[2];   ///< coordinates 4j+1 and 4j+3
};

/// Trials have rows [0, 2^32) and head_dim up to this.
inline constexpr std::int64_t kMaxVectorHeadDim = std::int64_t{1} << 18U;

inline std::int64_t quads_of(std::int64_t head_dim) {
    return (head_dim + 3) / 4;
}

/// Fills quads_of(head_dim) operands of one trial.
void make_quad_operands(std::span<QuadOperands> quads, PhiloxKey key, std::uint64_t trial, std::int64_t head_dim);

}  // namespace mobalab::sim
