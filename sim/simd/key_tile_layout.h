#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "analysis/routing_point.h"
#include "analysis/scorer.h"
#include "sim/streams/transforms.h"
#include "sim/streams/vector_rows.h"

namespace mobalab::sim {

/// Larger tiles of keys would leave the caches, and nobody has such heads.
inline constexpr std::int64_t kMostTileHeadDim = 16384;

/// Real key vectors of some consecutive rows (sim/streams/vector_rows.h) as floats, coordinate by coordinate, so that a
/// register holds one coordinate of several rows: coordinate j of row i is coords[j * kStride + kHalo + i]. The kHalo
/// places before the first row hold the keys before it, for a convolution.
///
/// What a register's lane does is what one number at a time would do: every sum runs over the coordinates in their
/// order, products and sums are rounded apart. Rows are computed in groups of kGroup; those beyond the ones asked for
/// are drawn and ignored.
struct KeyTile {
    static constexpr std::size_t kRows = 64;
    static constexpr std::size_t kGroup = 16;
    static constexpr std::size_t kHalo = 16;  ///< at least the widest convolution - 1
    static constexpr std::size_t kStride = kHalo + kRows;

    /// Floats a tile needs.
    static std::size_t size(std::int64_t head_dim) {
        return static_cast<std::size_t>(4 * quads_of(head_dim)) * kStride;
    }
};

/// A row of a tile becomes own x + common c + query q: x the row itself, c the component its block shares, q the query.
struct KeyMix {
    alignas(64) float own[KeyTile::kRows];
    alignas(64) float common[KeyTile::kRows];
    alignas(64) float query[KeyTile::kRows];
};

/// k'_t = k_t + f(tap (k_t + k_(t-1) + ... + k_(t-width+1))); width 0: k'_t = k_t.
struct TileConvolution {
    std::int64_t width;
    float tap;
    bool silu;
};

/// How keys are made of the normals x of their rows:
///
///   random key   sqrt(rho) c + sqrt(1 - rho) u,      u = (x - (x.c) c) / |x - (x.c) c|   (rho = 0: x / |x|)
///   planted key  mu q + sqrt(1 - mu^2) u,            u = (x - (x.q) q) / |x - (x.q) q|
///
/// c is the unit vector of row 1 + c B + b for stream block b, q the query.
struct KeyRecipe {
    explicit KeyRecipe(const analysis::RoutingPoint& point);

    struct Share {
        float along;
        float across;
    };
    Share random;   ///< sqrt(rho), sqrt(1 - rho)
    Share signal;   ///< mu_signal, sqrt(1 - mu_signal^2)
    Share cluster;  ///< mu_cluster, sqrt(1 - mu_cluster^2)
    TileConvolution convolution;
};

/// Length of x - (x.e) e for a unit vector e. Two dimensions can leave nothing but rounding of it.
MOBALAB_SIM_INLINE float perpendicular(float square, float along) {
    const float rest = square - along * along;
    const float least = 1e-6F * square;
    return std::sqrt(rest > least ? rest : least);
}

/// What one channel adds to one part of a block's score (analysis/scorer.h): phi(q) psi, psi its summary over the
/// block's B keys, of which a mean is still the sum, taken in the order of the keys. A score is the sum over channels,
/// in their order, of the sums over parts, in theirs; products and sums rounded apart.
MOBALAB_SIM_INLINE float score_term(analysis::ScorePart part, float query, float summary, std::int64_t block_size) {
    const float mapped = part.map == analysis::QueryMap::positive_part   ? (query > 0.0F ? query : 0.0F)
                         : part.map == analysis::QueryMap::negative_part ? (query < 0.0F ? query : 0.0F)
                                                                         : query;
    return mapped * (part.summary == analysis::Summary::mean ? summary / static_cast<float>(block_size) : summary);
}

}  // namespace mobalab::sim
