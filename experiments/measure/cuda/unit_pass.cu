#include "experiments/measure/cuda/unit_pass.h"

#include <cmath>

#include "experiments/measure/cuda/by_head_dim.h"
#include "experiments/measure/cuda/head_tile.cuh"

namespace mobalab::experiments::cuda {
namespace {

constexpr int tiles_per_block = 32;  // of keys: 2048 of them
constexpr int tile_units = tile_keys / unit_keys;

template <int HeadDim>
struct Shared {
    Tile<HeadDim> q;
    Tile<HeadDim> k[2];
};

// The two rows of an accumulator that a lane holds a part of.
struct LaneRows {
    int row[2];       // in the window
    int position[2];  // t
    bool real[2];     // not behind the window's last row
};

// The best of a lane's four keys and of its neighbours' in the quad; keys count from the unit's first.
struct Best {
    float score;
    int key;
};

__device__ __forceinline__ int key_in_unit(int i, int quad_lane) {
    return i / 2 * 8 + quad_lane * 2 + i % 2;
}

__device__ __forceinline__ Best quad_best(const float (&z)[4], int quad_lane) {
    const float score = quad_max(fmaxf(fmaxf(z[0], z[1]), fmaxf(z[2], z[3])));
    int key = unit_keys - 1;
#pragma unroll
    for (int i = 3; i >= 0; --i) {
        if (z[i] == score) key = key_in_unit(i, quad_lane);
    }
    return {score, quad_min(key)};
}

__device__ __forceinline__ float quad_log_mass(const float (&z)[4], float best, float scale_log2) {
    const float base = best == -INFINITY ? 0.0F : best;
    float sum = 0.0F;
#pragma unroll
    for (const float x : z) sum += ptx::exp2_approx((x - base) * scale_log2);
    return fmaf(base, scale_log2, __log2f(quad_sum(sum)));
}

/// Of keys 1 ... t - 1025 in the unit that key t - 1024 belongs to.
__device__ __forceinline__ void store_cut(const UnitArrays& units, const LaneRows& rows, const float (&z)[4], int h,
                                          int first_key, int quad_lane) {
    const int cut = rows.position[h] - distant_keys;
    float masked[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int key = first_key + key_in_unit(i, quad_lane);
        masked[i] = key >= 1 && key < cut ? z[i] : -INFINITY;
    }
    const Best best = quad_best(masked, quad_lane);
    const bool here = cut >= first_key && cut < first_key + unit_keys;
    if (here && rows.real[h] && quad_lane == 0) {
        units.cut_score[rows.row[h]] = best.score;
        units.cut_key[rows.row[h]] = first_key + best.key;
    }
}

// What a lane will store: of row h the unit of its place in the quad.
struct LaneUnit {
    float log_mass[2], best[2], sum[2], spread[2];
    int best_key[2];
};

__device__ __forceinline__ void store_units(const UnitArrays& units, const LaneRows& rows, const LaneUnit& kept,
                                            int unit) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        if (!rows.real[h]) continue;
        const std::int64_t at = static_cast<std::int64_t>(rows.row[h]) * units.pitch + unit;
        units.log_mass[at] = kept.log_mass[h];
        units.best[at] = kept.best[h];
        units.best_key[at] = static_cast<std::uint8_t>(kept.best_key[h]);
        if (units.sum != nullptr) {
            units.sum[at] = kept.sum[h];
            units.spread[at] = kept.spread[h];
        }
    }
}

__device__ __forceinline__ void reduce_tile(const UnitPassArgs& args, const LaneRows& rows, int warp_position, int tile,
                                            int lane, const Accumulator& scores) {
    const int quad_lane = lane % 4, tile_begin = tile * tile_keys, tile_end = tile_begin + tile_keys;
    const bool edge = tile == 0 || tile_end > warp_position + 1;  // some row must not see all of it
    const int first_cut = warp_position - distant_keys;
    const bool cut = first_cut + warp_rows > tile_begin && first_cut < tile_end;
    LaneUnit kept;
#pragma unroll
    for (int unit = 0; unit < tile_units; ++unit) {
        const int first_key = tile_begin + unit * unit_keys;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int at = 8 * unit + 2 * h;
            float z[4] = {scores[at], scores[at + 1], scores[at + 4], scores[at + 5]};
            const float sum = quad_sum((z[0] + z[1]) + (z[2] + z[3])), mean = sum * (1.0F / unit_keys);
            float spread = 0.0F;
#pragma unroll
            for (const float x : z) spread = fmaf(x - mean, x - mean, spread);
            spread = quad_sum(spread);
            if (rows.real[h] && !(fabsf(sum) < INFINITY)) *args.overflowed = 1;
            if (cut) store_cut(args.units, rows, z, h, first_key, quad_lane);
            if (edge) {
                if (first_key == 0 && quad_lane == 0 && rows.real[h]) args.units.first_score[rows.row[h]] = z[0];
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int key = first_key + key_in_unit(i, quad_lane);
                    if (key == 0 || key > rows.position[h]) z[i] = -INFINITY;
                }
            }
            const Best best = quad_best(z, quad_lane);
            const float log_mass = quad_log_mass(z, best.score, args.scale_log2);
            if (quad_lane == unit) {
                kept.log_mass[h] = log_mass;
                kept.best[h] = best.score;
                kept.best_key[h] = best.key;
                kept.sum[h] = sum;
                kept.spread[h] = spread;
            }
        }
    }
    store_units(args.units, rows, kept, tile * tile_units + quad_lane);
}

template <typename T, int HeadDim>
__global__ void __launch_bounds__(tile_threads, 1) unit_pass_kernel(const __grid_constant__ UnitPassArgs args) {
    extern __shared__ std::byte dynamic[];
    Shared<HeadDim>& shared = *reinterpret_cast<Shared<HeadDim>*>(dynamic);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int first_row = static_cast<int>(blockIdx.x) * tile_rows;
    const int last_position = args.window.position + min(first_row + tile_rows, args.window.rows) - 1;
    const int begin = static_cast<int>(blockIdx.y) * tiles_per_block;
    const int end = min(begin + tiles_per_block, last_position / tile_keys + 1);
    if (begin >= end) return;

    LaneRows rows;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        rows.row[h] = first_row + warp * warp_rows + lane / 4 + 8 * h;
        rows.position[h] = args.window.position + rows.row[h];
        rows.real[h] = rows.row[h] < args.window.rows;
    }
    constexpr std::int64_t stride = HeadDim * 2;
    load_tile(shared.q, args.q, stride, first_row, args.window.rows);
    load_tile(shared.k[0], args.k, stride, begin * tile_keys, args.keys);
    ptx::cp_async_commit();
    for (int tile = begin; tile < end; ++tile) {
        const int stage = (tile - begin) % 2;
        if (tile + 1 < end) load_tile(shared.k[1 - stage], args.k, stride, (tile + 1) * tile_keys, args.keys);
        ptx::cp_async_commit();
        ptx::cp_async_wait<1>();
        __syncthreads();
        Accumulator scores;
        products<T, HeadDim>(shared.q.row(warp * warp_rows), shared.k[stage], lane, scores);
        __syncthreads();  // the next tile but one may come where this one was
        reduce_tile(args, rows, args.window.position + first_row + warp * warp_rows, tile, lane, scores);
    }
}

}  // namespace

cudaError_t launch_unit_pass(kernels::DataType dtype, int head_dim, const UnitPassArgs& args, cudaStream_t stream) {
    if (args.window.rows == 0) return cudaSuccess;
    const std::int64_t tiles = (args.window.position + args.window.rows - 1) / tile_keys + 1;
    const dim3 blocks(pieces(args.window.rows, tile_rows), pieces(tiles, tiles_per_block));
    return by_head_dim(dtype, head_dim, [&](auto element, auto width) {
        return launch(unit_pass_kernel<decltype(element), width.value>, blocks, tile_threads,
                      sizeof(Shared<width.value>), stream, args);
    });
}

}  // namespace mobalab::experiments::cuda
