#include <algorithm>
#include <utility>

#include "kernels/cuda/host/status.h"
#include "kernels/cuda/pooling/centroid.h"
#include "kernels/cuda/pooling/key_conv.cuh"
#include "kernels/cuda/pooling/pooling_grid.cuh"

// Memory-bound: every key is read once, 16 bytes a thread. The threads of a block of keys each sum a run of consecutive
// keys, as they are or convolved and rounded; their partial sums meet in shared memory in a fixed order.
namespace mobalab::kernels::cuda {
namespace {

constexpr int conv_threads = 128;  // a convolution needs many registers: smaller thread blocks fill a processor better
constexpr int loads_in_flight = 8;

struct Params {
    PoolingGrid grid;
    CentroidOutput out;
    const float* weight;  // of a convolution: [heads_k, head_dim, width]
    void* convolved;
    RowStrides convolved_stride;
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
template <typename T, int Width, bool Divided>
__global__ void __launch_bounds__(pooling_threads) centroid_kernel(const Params params) {
    extern __shared__ float partial[];  // [block][split][head_dim]
    const PoolingGrid& p = params.grid;
    const PoolingWork<Divided> work(p);
    if (work.block0 >= work.blocks) return;

    const Sequence& s = work.sequence;
    const int offset = work.chunk * chunk_elements;
    float sum[chunk_elements] = {};
    const T* k = static_cast<const T*>(p.k) + p.stride.at(s.k.batch, s.k.token, work.head) + offset;
    if constexpr (Width == 0) {
        add_run<T>(k, p.stride.token, work.first, work.last, sum);
    } else {
        float w[chunk_elements][Width];
        load_weight<Width>(params.weight + static_cast<std::int64_t>(work.head) * p.head_dim * Width, work.chunk, w);
        const std::int64_t stride = params.convolved_stride.token;
        T* out =
            static_cast<T*>(params.convolved) + params.convolved_stride.at(s.k.batch, s.k.token, work.head) + offset;
        convolve_run<T, Width>(k, p.stride.token, w, work.first, work.last, [&](int token, const uint4& y) {
            *reinterpret_cast<uint4*>(out + token * stride) = y;
            add<T>(y, sum);
        });
    }
    float* mine = partial + (work.local * p.split + work.share) * p.head_dim + offset;
#pragma unroll
    for (int e = 0; e < chunk_elements; ++e) mine[e] = sum[e];
    __syncthreads();

    for (int i = static_cast<int>(threadIdx.x); i < p.blocks_per_group * p.head_dim;
         i += static_cast<int>(blockDim.x)) {
        const int block = work.block0 + i / p.head_dim, element = i % p.head_dim;
        if (block >= work.blocks) break;
        float total = 0.0f;
        for (int j = 0; j < p.split; ++j) total += partial[((i / p.head_dim) * p.split + j) * p.head_dim + element];
        const int keys = work.keys(p, block);
        const float mean = total / static_cast<float>(Divided ? max(keys, 1) : keys);  // 0 without keys
        const std::int64_t at = work.at(p, block, element);
        if (params.out.full != nullptr) {
            params.out.full[at] = mean;
        } else {
            write_split<T>(params.out.high, params.out.low, at, mean);
        }
    }
}

template <typename T>
__global__ void split_kernel(const float* full, void* high, void* low, std::int64_t count) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) write_split<T>(high, low, i, full[i]);
}

// One thread block; the exclusive sum of r * ceil(sk / B) over the sequences, in rounds of blockDim.x sequences. At
// most `total`: cu_seqlens may hold anything.
__global__ void block_base_kernel(const Sequences sequences, int block_size, int sub_blocks, std::int32_t total,
                                  std::int32_t* block_base) {
    __shared__ std::int32_t sums[1024];
    std::int32_t carried = 0;
    const int t = static_cast<int>(threadIdx.x);
    for (int first = 0; first < sequences.batch; first += static_cast<int>(blockDim.x)) {
        const int b = first + t;
        const int blocks = b < sequences.batch ? (sequences.at(b).sk + block_size - 1) / block_size * sub_blocks : 0;
        sums[t] = blocks;
        __syncthreads();
        for (int step = 1; step < static_cast<int>(blockDim.x); step *= 2) {
            const std::int32_t other = t >= step ? sums[t - step] : 0;
            __syncthreads();
            sums[t] += other;
            __syncthreads();
        }
        const auto base = [&](std::int32_t more) {
            return static_cast<std::int32_t>(
                min(static_cast<std::int64_t>(carried) + more, static_cast<std::int64_t>(total)));
        };
        if (b < sequences.batch) block_base[b] = base(sums[t] - blocks);
        carried = base(sums[blockDim.x - 1]);
        __syncthreads();
    }
}

template <typename T, int Width, bool Divided = false>
void launch(const Params& p, cudaStream_t stream) {
    const std::size_t shared = p.grid.partial_elements() * sizeof(float);
    centroid_kernel<T, Width, Divided><<<p.grid.thread_blocks(), p.grid.threads(), shared, stream>>>(p);
}

template <typename T>
void launch_means(const Params& p, cudaStream_t stream) {
    if (p.grid.sub_blocks > 1) {
        launch<T, 0, true>(p, stream);
    } else {
        launch<T, 0>(p, stream);
    }
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
                                                 static_cast<int>(problem.scorer.sub_blocks),
                                                 static_cast<std::int32_t>(problem.sub_blocks()), table);
    block_base = table;
    return launch_status("block_base_kernel");
}

Status launch_centroids(const Problem& problem, ConstTensor k, const std::int32_t* block_base, CentroidOutput out,
                        cudaStream_t stream) {
    Params p{};
    p.grid = make_pooling_grid(problem, k, block_base, pooling_threads);
    p.out = out;
    if (problem.dtype == DataType::bf16) {
        launch_means<__nv_bfloat16>(p, stream);
    } else {
        launch_means<__half>(p, stream);
    }
    return launch_status("centroid_kernel");
}

Status launch_conv_centroids(const Problem& problem, ConstTensor k, const float* weight, int width, Tensor convolved,
                             const std::int32_t* block_base, CentroidOutput out, cudaStream_t stream) {
    Params p{};
    p.grid = make_pooling_grid(problem, k, block_base, conv_threads);
    p.out = out;
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
