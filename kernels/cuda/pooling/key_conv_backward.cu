#include "kernels/cuda/pooling/key_conv_backward.h"

#include <utility>

#include "kernels/cuda/host/status.h"
#include "kernels/cuda/host/workspace.h"
#include "kernels/cuda/tile/elements.cuh"
#include "kernels/cuda/tile/rows.h"
#include "kernels/cuda/tile/sequences.h"

// With z_t = sum of w_l k_{t-l}: dz_t = d_out_t silu'(z_t), dk_t = d_out_t + sum of w_l dz_{t+l}, dw_l = sum of
// dz_t k_{t-l}. A thread walks `run` tokens of two channels with the last `width` keys, d_out and dz in registers, and
// width - 1 tokens more, whose dz it needs but counts in no dw.
namespace mobalab::kernels::cuda {
namespace {

constexpr int run = 128;
constexpr int warps = 8;
constexpr int threads_per_block = 32 * warps;
constexpr int piece_tokens = run * warps;  // of one thread block, and one sum of d_weight
constexpr int block_channels = 64;

struct Params {
    Sequences sequences;
    const void* k;
    RowStrides k_stride;
    const void* d_out;
    RowStrides d_out_stride;
    void* dk;
    RowStrides dk_stride;
    const float* weight;  // [heads_k, head_dim, width]
    float* sums;          // [pieces, heads_k, head_dim, width]
    float* d_weight;
    std::int32_t heads_k, head_dim, channel_blocks;
    std::int64_t pieces;
};

/// d_out silu'(z), silu'(z) = s (1 + z (1 - s)).
__device__ __forceinline__ float silu_gradient(float z, float d_out) {
    const float s = __fdividef(1.0f, 1.0f + __expf(-z));
    return d_out * s * fmaf(z, 1.0f - s, 1.0f);
}

/// Window of the last Width values of two channels; newest first.
template <int Width>
struct Window {
    float2 value[Width] = {};

    __device__ __forceinline__ void push(float2 x) {
#pragma unroll
        for (int l = Width - 1; l > 0; --l) value[l] = value[l - 1];
        value[0] = x;
    }
};

template <typename T, int Width>
__global__ void __launch_bounds__(threads_per_block) key_conv_backward_kernel(const Params p) {
    using P = typename Pair<T>::Type;
    __shared__ float2 shares[warps][Width][32];
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int piece = static_cast<int>(blockIdx.x) / p.channel_blocks;
    const int channel = static_cast<int>(blockIdx.x) % p.channel_blocks * block_channels + 2 * lane;
    const int head = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z);
    const Sequence s = p.sequences.at(b);
    if (piece * piece_tokens >= s.sk) return;
    const bool works = channel < p.head_dim;
    const int first = piece * piece_tokens + warp * run, last = works ? min(first + run, s.sk) : 0;

    float2 w[Width], dw[Width] = {};
    const float* const weight = p.weight + (static_cast<std::int64_t>(head) * p.head_dim + channel) * Width;
#pragma unroll
    for (int l = 0; l < Width; ++l) {
        w[l] = works ? make_float2(__ldg(weight + l), __ldg(weight + Width + l)) : make_float2(0.0f, 0.0f);
    }
    const T* const k = static_cast<const T*>(p.k) + p.k_stride.at(s.k.batch, s.k.token, head) + channel;
    const T* const d_out = static_cast<const T*>(p.d_out) + p.d_out_stride.at(s.k.batch, s.k.token, head) + channel;
    T* const dk = static_cast<T*>(p.dk) + p.dk_stride.at(s.k.batch, s.k.token, head) + channel;
    const auto load = [&](const T* rows, std::int64_t stride, int token) {
        return token >= 0 && token < s.sk ? to_float2(*reinterpret_cast<const P*>(rows + token * stride))
                                          : make_float2(0.0f, 0.0f);
    };

    if (first < last) {
        Window<Width> keys, upper, dz;
#pragma unroll
        for (int l = Width - 1; l > 0; --l) keys.push(load(k, p.k_stride.token, first - l));
#pragma unroll 4
        for (int t = first; t < last + Width - 1; ++t) {
            keys.push(load(k, p.k_stride.token, t));
            upper.push(load(d_out, p.d_out_stride.token, t));
            float2 z = make_float2(0.0f, 0.0f);
#pragma unroll
            for (int l = 0; l < Width; ++l) {
                z.x = fmaf(w[l].x, keys.value[l].x, z.x);
                z.y = fmaf(w[l].y, keys.value[l].y, z.y);
            }
            dz.push(make_float2(silu_gradient(z.x, upper.value[0].x), silu_gradient(z.y, upper.value[0].y)));
            if (t < last) {
#pragma unroll
                for (int l = 0; l < Width; ++l) {
                    dw[l].x = fmaf(dz.value[0].x, keys.value[l].x, dw[l].x);
                    dw[l].y = fmaf(dz.value[0].y, keys.value[l].y, dw[l].y);
                }
            }
            const int done = t - (Width - 1);
            if (done < first) continue;
            float2 sum = upper.value[Width - 1];
#pragma unroll
            for (int l = 0; l < Width; ++l) {
                sum.x = fmaf(w[l].x, dz.value[Width - 1 - l].x, sum.x);
                sum.y = fmaf(w[l].y, dz.value[Width - 1 - l].y, sum.y);
            }
            *reinterpret_cast<P*>(dk + done * p.dk_stride.token) = P{from_float<T>(sum.x), from_float<T>(sum.y)};
        }
    }
#pragma unroll
    for (int l = 0; l < Width; ++l) shares[warp][l][lane] = dw[l];
    __syncthreads();
    const std::int64_t row = piece_base(s.k_begin, b, piece_tokens) + piece;
    float* const sums = p.sums + ((row * p.heads_k + head) * p.head_dim + channel) * Width;
    for (int l = warp; l < Width && works; l += warps) {
        float2 sum = make_float2(0.0f, 0.0f);
#pragma unroll
        for (int i = 0; i < warps; ++i) {
            sum.x += shares[i][l][lane].x;
            sum.y += shares[i][l][lane].y;
        }
        sums[l] = sum.x;
        sums[Width + l] = sum.y;
    }
}

/// One warp adds the pieces of one weight: those of each lane first, then the lanes.
__global__ void __launch_bounds__(threads_per_block) sum_weights_kernel(const Params p, std::int64_t weights) {
    const std::int64_t mine = static_cast<std::int64_t>(blockIdx.x) * warps + threadIdx.x / 32;
    if (mine >= weights) return;
    double sum = 0.0;
    for (std::int64_t piece = threadIdx.x % 32; piece < p.pieces; piece += 32) sum += p.sums[piece * weights + mine];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (threadIdx.x % 32 == 0) p.d_weight[mine] = static_cast<float>(sum);
}

template <typename T, int Width>
void launch(const Params& p, int pieces_max, cudaStream_t stream) {
    const dim3 grid(static_cast<unsigned>(pieces_max * p.channel_blocks), static_cast<unsigned>(p.heads_k),
                    static_cast<unsigned>(p.sequences.batch));
    key_conv_backward_kernel<T, Width><<<grid, threads_per_block, 0, stream>>>(p);
}

template <typename T>
using Launch = void (*)(const Params&, int, cudaStream_t);

template <typename T, std::size_t... I>
void launch_width(const Params& p, int width, int pieces_max, cudaStream_t stream, std::index_sequence<I...>) {
    static constexpr Launch<T> table[] = {launch<T, static_cast<int>(I) + min_conv_width>...};
    table[width - min_conv_width](p, pieces_max, stream);
}

std::int64_t pieces_of(const Problem& problem) {
    return padded_pieces(problem.tokens_k(), problem.batch, piece_tokens);
}

}  // namespace

std::size_t key_conv_backward_workspace(const Problem& problem) {
    WorkspaceCarver carver(nullptr);
    carver.take<float>(pieces_of(problem) * problem.heads_k * problem.head_dim * max_conv_width);
    return carver.used();
}

Status launch_key_conv_backward(const Problem& problem, ConstTensor k, const float* weight, int width,
                                ConstTensor d_out, Tensor dk, float* d_weight, void* workspace, cudaStream_t stream) {
    Params p{};
    p.sequences = make_sequences(problem);
    p.k = k.data;
    p.k_stride = strides_of(k);
    p.d_out = d_out.data;
    p.d_out_stride = strides_of(d_out);
    p.dk = dk.data;
    p.dk_stride = strides_of(dk);
    p.weight = weight;
    p.sums = static_cast<float*>(workspace);
    p.d_weight = d_weight;
    p.heads_k = static_cast<std::int32_t>(problem.heads_k);
    p.head_dim = static_cast<std::int32_t>(problem.head_dim);
    p.channel_blocks = (p.head_dim + block_channels - 1) / block_channels;
    p.pieces = pieces_of(problem);

    // Pieces between sequences exist in number only.
    const std::int64_t weights = problem.heads_k * problem.head_dim * width;
    const auto sum_bytes = static_cast<std::size_t>(p.pieces * weights) * sizeof(float);
    if (const cudaError_t error = cudaMemsetAsync(p.sums, 0, sum_bytes, stream); error != cudaSuccess) {
        return device_status(error, "clearing sums of d_weight");
    }
    const int pieces_max = static_cast<int>((problem.seqlen_k + piece_tokens - 1) / piece_tokens);
    if (problem.tokens_k() > 0) {
        constexpr std::make_index_sequence<max_conv_width - min_conv_width + 1> widths;
        if (problem.dtype == DataType::bf16) {
            launch_width<__nv_bfloat16>(p, width, pieces_max, stream, widths);
        } else {
            launch_width<__half>(p, width, pieces_max, stream, widths);
        }
        if (Status s = launch_status("key_conv_backward"); !s.ok()) return s;
    }
    sum_weights_kernel<<<static_cast<unsigned>((weights + warps - 1) / warps), threads_per_block, 0, stream>>>(p,
                                                                                                               weights);
    return launch_status("sum_weights");
}

}  // namespace mobalab::kernels::cuda
