#include "experiments/measure/cuda/dense_pass.h"

#include "experiments/measure/cuda/by_head_dim.h"
#include "experiments/measure/cuda/head_tile.cuh"
#include "kernels/cuda/tile/elements.cuh"

namespace mobalab::experiments::cuda {
namespace {

/// Weights are summed 2^14 times as large, so that fp16 keeps the digits of those down to 2^-28.
constexpr float weight_log2 = 14.0F;

/// Channels of the values that a thread block sums: more leave no registers for the scores.
template <int HeadDim>
inline constexpr int channels_at_once = HeadDim < 128 ? HeadDim : 128;

template <int HeadDim>
struct Shared {
    Tile<HeadDim> q;
    Tile<HeadDim> k[2];
    Tile<channels_at_once<HeadDim>> v[2];
};

/// Two weights as 16-bit numbers and what these leave of them.
template <typename T>
struct Halves {
    std::uint32_t high, low;

    __device__ __forceinline__ Halves(float a, float b) {
        using Pair = typename kernels::cuda::Pair<T>::Type;
        const Pair pair{kernels::cuda::from_float<T>(a), kernels::cuda::from_float<T>(b)};
        const float2 kept = kernels::cuda::to_float2(pair);
        const Pair rest{kernels::cuda::from_float<T>(a - kept.x), kernels::cuda::from_float<T>(b - kept.y)};
        high = *reinterpret_cast<const std::uint32_t*>(&pair);
        low = *reinterpret_cast<const std::uint32_t*>(&rest);
    }
};

/// out += weights . values; [4 j + 2 h + i] of out is row lane / 4 + 8 h, channel 8 j + 2 (lane % 4) + i.
template <typename T, int Channels>
__device__ __forceinline__ void add_values(const Accumulator& weights, const Tile<Channels>& values, int lane,
                                           float (&out)[Channels / 2]) {
#pragma unroll
    for (int s = 0; s < tile_keys / 16; ++s) {
        std::uint32_t high[4], low[4];
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const Halves<T> halves(weights[8 * s + 2 * r], weights[8 * s + 2 * r + 1]);
            high[r] = halves.high;
            low[r] = halves.low;
        }
#pragma unroll
        for (int j = 0; j < Channels / 8; j += 2) {
            std::uint32_t v[4];
            ptx::ldmatrix_x4_transposed(v, values.row(16 * s + lane % 16) + (j + lane / 16) * 16);
            ptx::mma<T>(out + 4 * j, high, v[0], v[1]);
            ptx::mma<T>(out + 4 * j + 4, high, v[2], v[3]);
            ptx::mma<T>(out + 4 * j, low, v[0], v[1]);
            ptx::mma<T>(out + 4 * j + 4, low, v[2], v[3]);
        }
    }
}

template <typename T, int HeadDim>
__global__ void __launch_bounds__(tile_threads, 1) dense_pass_kernel(const __grid_constant__ DensePassArgs args) {
    extern __shared__ std::byte dynamic[];
    Shared<HeadDim>& shared = *reinterpret_cast<Shared<HeadDim>*>(dynamic);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int first_row = static_cast<int>(gridDim.x - 1 - blockIdx.x) * tile_rows;  // the longest rows first
    const int last_position = args.rows.position + min(first_row + tile_rows, args.rows.rows) - 1;
    const int tiles = last_position / tile_keys + 1;
    int row[2], position[2];
    float offset[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        row[h] = first_row + warp * warp_rows + lane / 4 + 8 * h;
        position[h] = args.rows.position + row[h];
        offset[h] = row[h] < args.rows.rows ? weight_log2 - args.lse_log2[row[h]] : 0.0F;
    }
    constexpr std::int64_t stride = HeadDim * 2;
    constexpr int channels = channels_at_once<HeadDim>;
    const int first_channel = static_cast<int>(blockIdx.y) * channels;
    const auto load_step = [&](int tile) {
        load_tile(shared.k[tile % 2], args.k, stride, tile * tile_keys, args.keys);
        load_tile(shared.v[tile % 2], args.v + first_channel * 2, stride, tile * tile_keys, args.keys);
    };
    load_tile(shared.q, args.q, stride, first_row, args.rows.rows);
    load_step(0);
    ptx::cp_async_commit();
    float out[channels / 2] = {};
    for (int tile = 0; tile < tiles; ++tile) {
        if (tile + 1 < tiles) load_step(tile + 1);
        ptx::cp_async_commit();
        ptx::cp_async_wait<1>();
        __syncthreads();
        Accumulator weights;
        products<T, HeadDim>(shared.q.row(warp * warp_rows), shared.k[tile % 2], lane, weights);
#pragma unroll
        for (int i = 0; i < 4 * tile_columns; ++i) {
            const int h = i / 2 % 2, key = tile * tile_keys + i / 4 * 8 + 2 * (lane % 4) + i % 2;
            const bool seen = key <= position[h] && row[h] < args.rows.rows;
            weights[i] = seen ? ptx::exp2_approx(fmaf(weights[i], args.scale_log2, offset[h])) : 0.0F;
        }
        add_values<T, channels>(weights, shared.v[tile % 2], lane, out);
        __syncthreads();  // the next tile but one may come where this one was
    }
    const float unit = exp2f(-weight_log2);
#pragma unroll
    for (int j = 0; j < channels / 8; ++j) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            if (row[h] >= args.rows.rows) continue;
            float* const target =
                args.out + static_cast<std::int64_t>(row[h]) * HeadDim + first_channel + 8 * j + 2 * (lane % 4);
            *reinterpret_cast<float2*>(target) = make_float2(out[4 * j + 2 * h] * unit, out[4 * j + 2 * h + 1] * unit);
        }
    }
}

}  // namespace

cudaError_t launch_dense_pass(kernels::DataType dtype, int head_dim, const DensePassArgs& args, cudaStream_t stream) {
    if (args.rows.rows == 0) return cudaSuccess;
    return by_head_dim(dtype, head_dim, [&](auto element, auto width) {
        constexpr int head = width.value;
        const dim3 blocks(pieces(args.rows.rows, tile_rows), head / channels_at_once<head>);
        return launch(dense_pass_kernel<decltype(element), head>, blocks, tile_threads, sizeof(Shared<head>), stream,
                      args);
    });
}

}  // namespace mobalab::experiments::cuda
