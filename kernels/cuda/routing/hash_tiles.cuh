#pragma once

#include <cstdint>

#include "kernels/cuda/routing/route_work.cuh"
#include "kernels/scorers/hash_score.h"

namespace mobalab::kernels::cuda {

/// Scores of scorers that look at no tensor, in the places of ptx::Wgmma. row: the one of d[0]; block: its block. The
/// hashes of the two rows are cheaper computed again for every tile than kept in registers.
template <typename Shape, int Count>
__device__ __forceinline__ void draw_hashes(float (&d)[Count], const RouteParams& p, const RouteItem<Shape>& item,
                                            int row, int block) {
    const std::int64_t position = row + item.sequence.shift();
    const std::uint64_t query[2] = {hash_of_query(p.seed, item.b, item.head, position),
                                    hash_of_query(p.seed, item.b, item.head, position + 8)};
#pragma unroll
    for (int i = 0; i < Count; ++i) d[i] = hash_score(query[i / 2 % 2], block + i / 4 * 8 + i % 2);
}

/// They stand where ScoreTiles has products: nothing is loaded or waited for.
template <typename Shape>
struct HashTiles {
    static constexpr int count = Shape::tile_blocks / 2;
    static constexpr bool queries_stay = false;

    float d[count];

    __device__ __forceinline__ explicit HashTiles(const RouteShared<Shape>&) {}
    __device__ __forceinline__ void load(unsigned char*, int, int, int) {}
    __device__ __forceinline__ std::uint64_t next() const { return 0; }
    __device__ __forceinline__ void start(std::uint64_t = 0) {}
    __device__ __forceinline__ void finish(int) { __syncwarp(); }
    __device__ __forceinline__ void draw(const RouteParams& p, const RouteItem<Shape>& item, int row, int block) {
        draw_hashes(d, p, item, row, block);
    }
};

}  // namespace mobalab::kernels::cuda
