#include "sim/affinity.h"

#include "sim/philox_tile.h"
#include "sim/transforms.h"

namespace mobalab::sim {
namespace {

template <std::size_t kCount>
void fill_affinity_tile(std::int32_t* out, PhiloxKey key, std::uint64_t subsequence, std::uint64_t draw,
                        float exponent) {
    PhiloxTile<kCount / 2> tile;
    fill_tile(tile, key, subsequence, draw);
    for (std::size_t i = 0; i < kCount; ++i) {
        out[i] = affinity(tile.first[i], tile.second[i], exponent);
    }
}

}  // namespace

void fill_affinities(std::int32_t* out, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                     std::uint64_t first, float exponent) {
    std::uint64_t draw = first / 2;
    const bool aligned = first % kAffinityTile == 0;
    for (; aligned && count >= kAffinityTile; count -= kAffinityTile) {
        fill_affinity_tile<kAffinityTile>(out, key, subsequence, draw, exponent);
        out += kAffinityTile;
        draw += kAffinityTile / 2;
    }
    for (; count >= kSmallAffinityTile; count -= kSmallAffinityTile) {
        fill_affinity_tile<kSmallAffinityTile>(out, key, subsequence, draw, exponent);
        out += kSmallAffinityTile;
        draw += kSmallAffinityTile / 2;
    }
}

}  // namespace mobalab::sim
