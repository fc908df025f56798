#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/tile/sequences.h"

// Keys or values of a run in shared memory as wgmma reads them: panels of 64 columns in the 128-byte swizzle.
namespace mobalab::kernels::cuda {

inline constexpr int panel_columns = 64;  // 128 bytes: the widest row of the swizzle
inline constexpr int panel_row_bytes = panel_columns * 2;

template <int HeadDim_, int Keys_ = keys_per_run>
struct RunTile {
    static constexpr int HeadDim = HeadDim_, Keys = Keys_;
    static constexpr int panel_bytes = Keys * panel_row_bytes;
    static constexpr int panels = (HeadDim + panel_columns - 1) / panel_columns;  // the last one padded with zeros
    static constexpr int bytes = panels * panel_bytes;
    static constexpr int row_bytes = panels * panel_row_bytes;  ///< that a copy brings for a key
};

/// One thread asks for a box of the map from a key on; the barrier must expect row_bytes a key of the box.
template <typename Tile>
__device__ __forceinline__ void copy_run(std::byte* tile, const CUtensorMap& map, int head, const Place& key,
                                         std::uint64_t* barrier) {
#pragma unroll
    for (int p = 0; p < Tile::panels; ++p) {
        ptx::tensor_load_4d(tile + p * Tile::panel_bytes, &map, p * panel_columns, head, key.token, key.batch, barrier);
    }
}

/// One warp: zeros for values past the end of the list or the sequence, which belong to the next one: 0 * inf must not
/// reach this one.
template <typename Tile>
__device__ __forceinline__ void clear_rows_from(std::byte* tile, int keys, int lane) {
    const int pieces = (Tile::Keys - keys) * (panel_row_bytes / 16);
    for (int p = 0; p < Tile::panels; ++p) {
        uint4* const panel = reinterpret_cast<uint4*>(tile + p * Tile::panel_bytes + keys * panel_row_bytes);
        for (int i = lane; i < pieces; i += 32) {
            panel[i] = make_uint4(0, 0, 0, 0);
        }
    }
}

}  // namespace mobalab::kernels::cuda
