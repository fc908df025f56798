#include <algorithm>
#include <bit>
#include <utility>

#include "kernels/cuda/host/status.h"
#include "kernels/cuda/pooling/centroid.h"
#include "kernels/cuda/pooling/key_conv.cuh"
#include "kernels/cuda/tile/elements.cuh"
#include "kernels/cuda/tile/rows.h"
#include "kernels/cuda/tile/sequences.h"

// Memory-bound: every key is read once, 16 bytes a thread. The threads of a block of keys each sum a run of consecutive
// keys, as they are or convolved and rounded; their partial sums meet in shared memory in a fixed order.
namespace mobalab::kernels::cuda {
namespace {

constexpr int most_threads = 256;  // of a thread block
constexpr int conv_threads = 128;  // a convolution needs many registers: smaller thread blocks fill a processor better
constexpr int loads_in_flight = 8;

struct Params {
    Sequences sequences;
    const void* k;
    RowStrides stride;
    std::int32_t heads_k, head_dim, block_size;
    std::int32_t blocks_max;        // of the longest sequence
    std::int32_t chunks;            // 16-byte chunks of a row
    std::int32_t run;               // keys of a thread
    std::int32_t split;             // threads that share one chunk column of a block
    std::int32_t blocks_per_group;  // blocks of one thread block
    std::int32_t groups;            // thread blocks per sequence and head
    const std::int32_t* block_base;
    CentroidOutput out;
    const float* weight;  // of a convolution: [heads_k, head_dim, width]
    void* convolved;
    RowStrides convolved_stride;
    std::int32_t total_blocks;
};

template <typename T>
__device__ __forceinline__ void add(const uint4& chunk, float (&sum)[chunk_elements]) {
    float x[chunk_elements];
    unpack<T>(chunk, x);
#pragma unroll
    for (int e = 0; e < chunk_elements; ++e) sum[e] += x[e];
}

/// Adds the keys [first, last) of a sequence. k: this thread's channels of its key 0.
template <typename T>
__device__ __forceinline__ void add_run(const T* k, std::int64_t stride_token, int first, int last,
                                        float (&sum)[chunk_elements]) {
    for (int t = first; t < last; t += loads_in_flight) {
        uint4 chunk[loads_in_flight];
#pragma unroll
        for (int i = 0; i < loads_in_flight; ++i) {
            const bool inside = t + i < last;
            chunk[i] = inside ? __ldg(reinterpret_cast<const uint4*>(k + (t + i) * stride_token)) : uint4{0, 0, 0, 0};
        }
#pragma unroll
        for (int i = 0; i < loads_in_flight; ++i) add<T>(chunk[i], sum);
    }
}

template <typename T>
__device__ void write_split(void* high, void* low, std::int64_t at, float mean) {
    const T rounded = from_float<T>(mean);
    static_cast<T*>(high)[at] = rounded;
    if (low == nullptr) return;
    // Infinity and NaN have no second half: infinity minus itself would be NaN.
    const float rest = isfinite(to_float(rounded)) ? mean - to_float(rounded) : 0.0f;
    static_cast<T*>(low)[at] = from_float<T>(rest);
}

/// Width 0: of the keys as they are.
template <typename T, int Width>
__global__ void __launch_bounds__(most_threads) centroid_kernel(const Params p) {
    extern __shared__ float partial[];  // [block][split][head_dim]
    std::int32_t index = static_cast<std::int32_t>(blockIdx.x);
    const int head = index % p.heads_k;  // heads innermost: neighbours share DRAM pages
    index /= p.heads_k;
    const int group = index % p.groups;
    const int b = index / p.groups;
    const Sequence s = p.sequences.at(b);
    int blocks = (s.sk + p.block_size - 1) / p.block_size;
    // Not more than the output holds, whatever cu_seqlens says.
    if (p.block_base != nullptr) blocks = min(blocks, p.total_blocks - p.block_base[b]);
    const int block0 = group * p.blocks_per_group;
    if (block0 >= blocks) return;

    const int per_block = p.chunks * p.split;
    const int local = static_cast<int>(threadIdx.x) / per_block;
    const int within = static_cast<int>(threadIdx.x) % per_block;
    const int share = within / p.chunks, chunk = within % p.chunks;
    const int block_begin = (block0 + local) * p.block_size;
    const int first = block_begin + share * p.run;
    const int last = min(first + p.run, s.sk);
    float sum[chunk_elements] = {};
    const T* k = static_cast<const T*>(p.k) + p.stride.at(s.k.batch, s.k.token, head) + chunk * chunk_elements;
    if constexpr (Width == 0) {
        add_run<T>(k, p.stride.token, first, last, sum);
    } else {
        float w[chunk_elements][Width];
        load_weight<Width>(p.weight + static_cast<std::int64_t>(head) * p.head_dim * Width, chunk, w);
        T* out =
            static_cast<T*>(p.convolved) + p.convolved_stride.at(s.k.batch, s.k.token, head) + chunk * chunk_elements;
        convolve_run<T, Width>(k, p.stride.token, w, first, last, [&](int token, const uint4& y) {
            *reinterpret_cast<uint4*>(out + token * p.convolved_stride.token) = y;
            add<T>(y, sum);
        });
    }
    float* mine = partial + (local * p.split + share) * p.head_dim + chunk * chunk_elements;
#pragma unroll
    for (int e = 0; e < chunk_elements; ++e) mine[e] = sum[e];
    __syncthreads();

    const std::int64_t base = p.block_base != nullptr ? p.block_base[b] : static_cast<std::int64_t>(b) * p.blocks_max;
    for (int i = static_cast<int>(threadIdx.x); i < p.blocks_per_group * p.head_dim;
         i += static_cast<int>(blockDim.x)) {
        const int block = block0 + i / p.head_dim, element = i % p.head_dim;
        if (block >= blocks) break;
        float total = 0.0f;
        for (int j = 0; j < p.split; ++j) total += partial[((i / p.head_dim) * p.split + j) * p.head_dim + element];
        const float mean = total / static_cast<float>(min(p.block_size, s.sk - block * p.block_size));
        const std::int64_t at = ((base + block) * p.heads_k + head) * p.head_dim + element;
        if (p.out.full != nullptr) {
            p.out.full[at] = mean;
        } else {
            write_split<T>(p.out.high, p.out.low, at, mean);
        }
    }
}

template <typename T>
__global__ void split_kernel(const float* full, void* high, void* low, std::int64_t count) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) write_split<T>(high, low, i, full[i]);
}

// One thread block; the exclusive sum of ceil(sk / B) over the sequences, in rounds of blockDim.x sequences. At most
// `total`: cu_seqlens may hold anything.
__global__ void block_base_kernel(const Sequences sequences, int block_size, std::int32_t total,
                                  std::int32_t* block_base) {
    __shared__ std::int32_t sums[1024];
    std::int32_t carried = 0;
    const int t = static_cast<int>(threadIdx.x);
    for (int first = 0; first < sequences.batch; first += static_cast<int>(blockDim.x)) {
        const int b = first + t;
        const int blocks = b < sequences.batch ? (sequences.at(b).sk + block_size - 1) / block_size : 0;
        sums[t] = blocks;
        __syncthreads();
        for (int step = 1; step < static_cast<int>(blockDim.x); step *= 2) {
            const std::int32_t other = t >= step ? sums[t - step] : 0;
            __syncthreads();
            sums[t] += other;
            __syncthreads();
        }
        if (b < sequences.batch) block_base[b] = min(carried + sums[t] - blocks, total);
        carried = min(carried + sums[blockDim.x - 1], total);
        __syncthreads();
    }
}

/// threads: of a thread block, or more where a block of keys needs them.
Params make_params(const Problem& problem, ConstTensor k, const std::int32_t* block_base, CentroidOutput out,
                   int threads) {
    Params p{};
    p.sequences = make_sequences(problem);
    p.k = k.data;
    p.stride = strides_of(k);
    p.total_blocks = static_cast<std::int32_t>(problem.blocks());
    p.heads_k = static_cast<std::int32_t>(problem.heads_k);
    p.head_dim = static_cast<std::int32_t>(problem.head_dim);
    p.block_size = static_cast<std::int32_t>(problem.block_size);
    p.blocks_max = static_cast<std::int32_t>((problem.seqlen_k + problem.block_size - 1) / problem.block_size);
    p.chunks = p.head_dim / chunk_elements;
    const auto run = static_cast<unsigned>(std::max(16, p.block_size * p.chunks / most_threads));
    p.run = static_cast<std::int32_t>(std::bit_ceil(run));  // divides the block
    p.split = p.block_size / p.run;
    p.blocks_per_group = std::max(1, threads / (p.chunks * p.split));
    p.groups = (p.blocks_max + p.blocks_per_group - 1) / p.blocks_per_group;
    p.block_base = block_base;
    p.out = out;
    return p;
}

template <typename T, int Width>
void launch(const Params& p, cudaStream_t stream) {
    const auto grid = static_cast<unsigned>(p.sequences.batch * p.groups * p.heads_k);
    const int threads = p.chunks * p.split * p.blocks_per_group;
    const std::size_t shared = static_cast<std::size_t>(p.blocks_per_group) * p.split * p.head_dim * sizeof(float);
    centroid_kernel<T, Width><<<grid, threads, shared, stream>>>(p);
}

template <typename T, std::size_t... I>
void launch_width(const Params& p, int width, cudaStream_t stream, std::index_sequence<I...>) {
    using Launch = void (*)(const Params&, cudaStream_t);
    static constexpr Launch table[] = {launch<T, static_cast<int>(I) + min_conv_width>...};
    table[width - min_conv_width](p, stream);
}

}  // namespace

std::size_t block_base_size(const Problem& problem) {
    if (problem.cu_seqlens_k == nullptr) return 0;
    return static_cast<std::size_t>(problem.batch) * sizeof(std::int32_t);
}

Status make_block_base(const Problem& problem, void* workspace, cudaStream_t stream, const std::int32_t*& block_base) {
    block_base = nullptr;
    if (problem.cu_seqlens_k == nullptr) return {};
    auto* table = static_cast<std::int32_t*>(workspace);
    const int threads = problem.batch <= 32 ? 32 : 1024;
    block_base_kernel<<<1, threads, 0, stream>>>(make_sequences(problem), static_cast<int>(problem.block_size),
                                                 static_cast<std::int32_t>(problem.blocks()), table);
    block_base = table;
    return launch_status("block_base_kernel");
}

Status launch_centroids(const Problem& problem, ConstTensor k, const std::int32_t* block_base, CentroidOutput out,
                        cudaStream_t stream) {
    const Params p = make_params(problem, k, block_base, out, most_threads);
    if (problem.dtype == DataType::bf16) {
        launch<__nv_bfloat16, 0>(p, stream);
    } else {
        launch<__half, 0>(p, stream);
    }
    return launch_status("centroid_kernel");
}

Status launch_conv_centroids(const Problem& problem, ConstTensor k, const float* weight, int width, Tensor convolved,
                             const std::int32_t* block_base, CentroidOutput out, cudaStream_t stream) {
    Params p = make_params(problem, k, block_base, out, conv_threads);
    p.weight = weight;
    p.convolved = convolved.data;
    p.convolved_stride = strides_of(convolved);
    constexpr std::make_index_sequence<max_conv_width - min_conv_width + 1> widths;
    if (problem.dtype == DataType::bf16) {
        launch_width<__nv_bfloat16>(p, width, stream, widths);
    } else {
        launch_width<__half>(p, width, stream, widths);
    }
    return launch_status("centroid_kernel");
}

Status launch_split_centroids(const Problem& problem, const float* full, void* high, void* low, cudaStream_t stream) {
    const std::int64_t count = problem.blocks() * problem.heads_k * problem.head_dim;
    constexpr int threads = 256;
    const auto grid = static_cast<unsigned>((count + threads - 1) / threads);
    if (problem.dtype == DataType::bf16) {
        split_kernel<__nv_bfloat16><<<grid, threads, 0, stream>>>(full, high, low, count);
    } else {
        split_kernel<__half><<<grid, threads, 0, stream>>>(full, high, low, count);
    }
    return launch_status("split_kernel");
}

}  // namespace mobalab::kernels::cuda
