#include "experiments/measure/cuda/score_pass.h"

#include "experiments/measure/cuda/by_head_dim.h"
#include "experiments/measure/cuda/head_tile.cuh"
#include "kernels/cuda/tile/elements.cuh"

namespace mobalab::experiments::cuda {
namespace {

constexpr int tiles_per_block = 16;  // of sub-blocks
constexpr int most_sub_blocks = 16;

template <int HeadDim>
struct Shared {
    Tile<HeadDim> q;
    Tile<HeadDim> summaries[2];
};

/// kernels::map_query() of a pair of elements.
template <typename T>
__device__ __forceinline__ std::uint32_t map_pair(kernels::QueryMap map, std::uint32_t bits) {
    using Pair = typename kernels::cuda::Pair<T>::Type;
    if (map == kernels::QueryMap::identity) return bits;
    const T zero_element = kernels::cuda::from_float<T>(0.0F);
    const Pair zero{zero_element, zero_element}, pair = *reinterpret_cast<const Pair*>(&bits);
    const Pair mapped = map == kernels::QueryMap::positive_part ? __hmax2(pair, zero) : __hmin2(pair, zero);
    return *reinterpret_cast<const std::uint32_t*>(&mapped);
}

/// Where a row's scores go; null for rows that are not.
struct LaneTargets {
    float* row[2];
};

/// Columns are sub-blocks, `sub_blocks` neighbours of them a block, whose score is the best of theirs.
__device__ __forceinline__ void store_scores(const ScorePassArgs& args, const LaneTargets& targets, int tile, int lane,
                                             const Accumulator& scores) {
    const int r = args.sub_blocks;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        float before = 0.0F;  // the best of the eight columns before, where sixteen are a block
#pragma unroll
        for (int j = 0; j < tile_columns; ++j) {
            const int column = tile * tile_keys + 8 * j + 2 * (lane % 4);
            const float first = scores[4 * j + 2 * h], second = scores[4 * j + 2 * h + 1];
            if (r == 1) {
                if (targets.row[h] != nullptr && column < args.blocks) targets.row[h][column] = first;
                if (targets.row[h] != nullptr && column + 1 < args.blocks) targets.row[h][column + 1] = second;
                continue;
            }
            float best = fmaxf(first, second);
            if (r >= 4) best = fmaxf(best, __shfl_xor_sync(kernels::cuda::full_warp, best, 1));
            if (r >= 8) best = fmaxf(best, __shfl_xor_sync(kernels::cuda::full_warp, best, 2));
            const bool second_half = r == most_sub_blocks && j % 2 == 1;
            if (second_half) best = fmaxf(best, before);
            before = best;
            const int block = column / r;
            const bool writes = second_half ? lane % 4 == 0 : r != most_sub_blocks && column % r == 0;
            if (writes && targets.row[h] != nullptr && block < args.blocks) targets.row[h][block] = best;
        }
    }
}

template <typename T, int HeadDim>
__global__ void __launch_bounds__(tile_threads, 1) score_pass_kernel(const __grid_constant__ ScorePassArgs args) {
    extern __shared__ std::byte dynamic[];
    Shared<HeadDim>& shared = *reinterpret_cast<Shared<HeadDim>*>(dynamic);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int first_row = static_cast<int>(blockIdx.x) * tile_rows;
    const int last_position = args.window.position + min(first_row + tile_rows, args.window.rows) - 1;
    const int columns = last_position / args.block_size * args.sub_blocks;  // of the candidates of the last row
    const int begin = static_cast<int>(blockIdx.y) * tiles_per_block;
    const int end = min(begin + tiles_per_block, (columns + tile_keys - 1) / tile_keys);
    if (begin >= end) return;

    LaneTargets targets;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int row = first_row + warp * warp_rows + lane / 4 + 8 * h;
        targets.row[h] = row < args.window.rows ? args.scores + static_cast<std::int64_t>(row) * args.blocks : nullptr;
    }
    constexpr std::int64_t row_bytes = HeadDim * 2;
    const auto load_step = [&](int step) {  // a part of a tile
        const int tile = begin + step / args.parts, part = step % args.parts;
        load_tile(shared.summaries[step % 2], args.summaries + part * row_bytes, args.parts * row_bytes,
                  tile * tile_keys, args.sub_block_count);
    };
    load_tile(shared.q, args.q, row_bytes, first_row, args.window.rows);
    load_step(0);
    ptx::cp_async_commit();
    const int steps = (end - begin) * args.parts;
    Accumulator scores;
    for (int step = 0; step < steps; ++step) {
        if (step + 1 < steps) load_step(step + 1);
        ptx::cp_async_commit();
        ptx::cp_async_wait<1>();
        __syncthreads();
        const int part = step % args.parts;
        if (part == 0) {
#pragma unroll
            for (float& score : scores) score = 0.0F;
        }
        const kernels::QueryMap map = part == 0 ? args.map[0] : args.map[1];
        add_products<T, HeadDim>(shared.q.row(warp * warp_rows), shared.summaries[step % 2], lane, scores,
                                 [map](std::uint32_t pair) { return map_pair<T>(map, pair); });
        __syncthreads();  // the next step but one may come where this one was
        if (part == args.parts - 1) store_scores(args, targets, begin + step / args.parts, lane, scores);
    }
}

}  // namespace

cudaError_t launch_score_pass(kernels::DataType dtype, int head_dim, const ScorePassArgs& args, cudaStream_t stream) {
    const int last_position = args.window.position + args.window.rows - 1;
    if (args.window.rows == 0 || last_position < args.block_size) return cudaSuccess;  // no candidates
    const int r = args.sub_blocks;
    if (args.parts < 1 || args.parts > kernels::max_score_parts || r < 1 || r > most_sub_blocks || (r & (r - 1)) != 0) {
        return cudaErrorInvalidValue;
    }
    const std::int64_t columns = static_cast<std::int64_t>(last_position / args.block_size) * r;
    const dim3 blocks(pieces(args.window.rows, tile_rows), pieces(pieces(columns, tile_keys), tiles_per_block));
    return by_head_dim(dtype, head_dim, [&](auto element, auto width) {
        return launch(score_pass_kernel<decltype(element), width.value>, blocks, tile_threads,
                      sizeof(Shared<width.value>), stream, args);
    });
}

}  // namespace mobalab::experiments::cuda
