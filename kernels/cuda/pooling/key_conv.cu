#include <utility>

#include "kernels/cuda/host/status.h"
#include "kernels/cuda/pooling/key_conv.cuh"
#include "kernels/cuda/pooling/key_conv.h"
#include "kernels/cuda/tile/rows.h"
#include "kernels/cuda/tile/sequences.h"

// Memory-bound: a thread walks `run` tokens of 8 channels and keeps the last width - 1 keys in registers, so a key is
// read 1 + (width - 1) / run times.
namespace mobalab::kernels::cuda {
namespace {

constexpr int run = 32;
constexpr int threads_per_block = 128;

struct Params {
    Sequences sequences;
    const void* k;
    RowStrides k_stride;
    void* out;
    RowStrides out_stride;
    const float* weight;  // [heads_k, head_dim, width]
    std::int32_t heads_k, head_dim, chunks;
    std::int32_t runs;  // of the longest sequence
    std::int64_t work;  // threads with something to do
};

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
    load_weight<Width>(p.weight + static_cast<std::int64_t>(head) * p.head_dim * Width, chunk, w);
    const T* k = static_cast<const T*>(p.k) + p.k_stride.at(s.k.batch, s.k.token, head) + chunk * chunk_elements;
    T* out = static_cast<T*>(p.out) + p.out_stride.at(s.k.batch, s.k.token, head) + chunk * chunk_elements;
    convolve_run<T, Width>(k, p.k_stride.token, w, first, last, [&](int token, const uint4& y) {
        *reinterpret_cast<uint4*>(out + token * p.out_stride.token) = y;
    });
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
    p.k_stride = strides_of(k);
    p.out = out.data;
    p.out_stride = strides_of(out);
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
