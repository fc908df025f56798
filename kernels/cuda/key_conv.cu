#include <utility>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/key_conv.h"
#include "kernels/cuda/sequences.h"
#include "kernels/cuda/status.h"

// Memory-bound: a thread walks `run` tokens of 8 channels and keeps the last width - 1 keys in registers, so a key is
// read 1 + (width - 1) / run times.
namespace mobalab::kernels::cuda {
namespace {

constexpr int run = 32;
constexpr int loads_in_flight = 4;
constexpr int threads_per_block = 128;

struct Params {
    Sequences sequences;
    const void* k;
    std::int64_t k_token, k_head;
    void* out;
    std::int64_t out_token, out_head;
    const float* weight;  // [heads_k, head_dim, width]
    std::int32_t heads_k, head_dim, chunks;
    std::int32_t runs;  // of the longest sequence
    std::int64_t work;  // threads with something to do
};

__device__ __forceinline__ float silu(float x) {
    return __fdividef(x, 1.0f + __expf(-x));
}

/// keys[Width - 1 + i] is token i, the ones before it its past.
template <typename T, int Width, int Keys>
__device__ __forceinline__ uint4 convolved(const float (&w)[chunk_elements][Width],
                                           const float (&keys)[Keys][chunk_elements], int i) {
    float y[chunk_elements];
#pragma unroll
    for (int e = 0; e < chunk_elements; ++e) {
        float z = 0.0f;
#pragma unroll
        for (int l = 0; l < Width; ++l) z = fmaf(w[e][l], keys[Width - 1 + i - l][e], z);
        y[e] = keys[Width - 1 + i][e] + silu(z);
    }
    return pack<T>(y);
}

template <typename T, int Width>
__global__ void __launch_bounds__(threads_per_block, 2) key_conv_kernel(const Params p) {
    std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * threads_per_block + threadIdx.x;
    if (index >= p.work) return;
    const int chunk = static_cast<int>(index % p.chunks);
    index /= p.chunks;
    const int head = static_cast<int>(index % p.heads_k);
    index /= p.heads_k;
    const Sequence s = p.sequences.at(static_cast<std::int32_t>(index / p.runs));
    const int first = static_cast<int>(index % p.runs) * run;
    const int last = min(first + run, s.sk);

    float w[chunk_elements][Width];
    const float* weight = p.weight + (static_cast<std::int64_t>(head) * p.head_dim + chunk * chunk_elements) * Width;
#pragma unroll
    for (int e = 0; e < chunk_elements; ++e) {
#pragma unroll
        for (int l = 0; l < Width; ++l) w[e][l] = __ldg(weight + e * Width + l);
    }
    const T* k = static_cast<const T*>(p.k) + s.k_begin * p.k_token + head * p.k_head + chunk * chunk_elements;
    T* out = static_cast<T*>(p.out) + s.k_begin * p.out_token + head * p.out_head + chunk * chunk_elements;
    const auto load = [&](int token) {
        const bool inside = token >= 0 && token < last;
        return inside ? __ldg(reinterpret_cast<const uint4*>(k + token * p.k_token)) : uint4{0, 0, 0, 0};
    };

    float keys[Width - 1 + loads_in_flight][chunk_elements];
#pragma unroll
    for (int l = 1; l < Width; ++l) unpack<T>(load(first - l), keys[Width - 1 - l]);
    for (int token0 = first; token0 < last; token0 += loads_in_flight) {
        uint4 ahead[loads_in_flight];
#pragma unroll
        for (int i = 0; i < loads_in_flight; ++i) ahead[i] = load(token0 + i);
#pragma unroll
        for (int i = 0; i < loads_in_flight; ++i) unpack<T>(ahead[i], keys[Width - 1 + i]);
#pragma unroll
        for (int i = 0; i < loads_in_flight; ++i) {
            if (token0 + i < last) {
                *reinterpret_cast<uint4*>(out + (token0 + i) * p.out_token) = convolved<T, Width>(w, keys, i);
            }
        }
#pragma unroll
        for (int l = 0; l < Width - 1; ++l) {
#pragma unroll
            for (int e = 0; e < chunk_elements; ++e) keys[l][e] = keys[l + loads_in_flight][e];
        }
    }
}

template <typename T, int Width>
void launch(const Params& p, cudaStream_t stream) {
    const auto grid = static_cast<unsigned>((p.work + threads_per_block - 1) / threads_per_block);
    key_conv_kernel<T, Width><<<grid, threads_per_block, 0, stream>>>(p);
}

template <typename T>
using Launch = void (*)(const Params&, cudaStream_t);

template <typename T, std::size_t... I>
void launch_width(const Params& p, int width, cudaStream_t stream, std::index_sequence<I...>) {
    static constexpr Launch<T> table[] = {launch<T, static_cast<int>(I) + min_conv_width>...};
    table[width - min_conv_width](p, stream);
}

}  // namespace

Status launch_key_conv(const Problem& problem, ConstTensor k, const float* weight, int width, Tensor out,
                       cudaStream_t stream) {
    Params p{};
    p.sequences = make_sequences(problem);
    p.k = k.data;
    p.k_token = k.stride_token;
    p.k_head = k.stride_head;
    p.out = out.data;
    p.out_token = out.stride_token;
    p.out_head = out.stride_head;
    p.weight = weight;
    p.heads_k = static_cast<std::int32_t>(problem.heads_k);
    p.head_dim = static_cast<std::int32_t>(problem.head_dim);
    p.chunks = p.head_dim / chunk_elements;
    p.runs = static_cast<std::int32_t>((problem.seqlen_k + run - 1) / run);
    p.work = problem.batch * p.runs * p.heads_k * p.chunks;
    constexpr std::make_index_sequence<max_conv_width - min_conv_width + 1> widths;
    if (problem.dtype == DataType::bf16) {
        launch_width<__nv_bfloat16>(p, width, stream, widths);
    } else {
        launch_width<__half>(p, width, stream, widths);
    }
    return launch_status("key_conv_kernel");
}

}  // namespace mobalab::kernels::cuda
