#include "kernels/cuda/decode/append.h"

#include <algorithm>

#include "kernels/cuda/decode/cache_table.h"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/pooling/pooling_grid.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/tile/elements.cuh"
#include "kernels/cuda/tile/rows.h"

// Summaries of the blocks that hold new keys. The threads of a sub-block sum the runs of keys that pooling/ gives them
// and add them up in its order, so the bits are the same.
namespace mobalab::kernels::cuda {
namespace {

enum class Kept { input_dtype, fp32, centred };

struct Params {
    CacheTable cache;
    RowTensor k;
    void* out = nullptr;  // [batch, blocks_max, sub_blocks, parts, heads_k, head_dim]
    std::int32_t heads_k = 0, head_dim = 0;
    std::int32_t block_size = 0;  // of a sub-block
    std::int32_t sub_blocks = 0, parts = 0;
    std::int32_t blocks_max = 0;  // sub-blocks of a sequence of `most` keys
    std::int32_t appended = 0;
    std::int32_t chunks = 0, run = 0, split = 0;
    std::int32_t maxima = -1, minima = -1;  // which part is which; -1: none
};

/// One sub-block of one sequence and head.
struct Work {
    std::int32_t b, head, number;  // number: of the sub-block
    std::int32_t length;           // of the sequence
    bool any;                      // it belongs to a block with new keys

    __device__ __forceinline__ explicit Work(const Params& p) {
        b = static_cast<std::int32_t>(blockIdx.y);
        head = static_cast<std::int32_t>(blockIdx.x) % p.heads_k;
        length = p.cache.length(b);
        const std::int32_t whole = p.block_size * p.sub_blocks;
        const std::int32_t first = max(length - p.appended, 0) / whole * p.sub_blocks;
        number = first + static_cast<std::int32_t>(blockIdx.x) / p.heads_k;
        any = static_cast<std::int64_t>(number / p.sub_blocks) * whole < length;
    }
    __device__ __forceinline__ std::int64_t at(const Params& p, int part, int element) const {
        const std::int64_t row = static_cast<std::int64_t>(b) * p.blocks_max + number;
        return ((row * p.parts + part) * p.heads_k + head) * p.head_dim + element;
    }
};

/// Keys of sub-block `number`: none behind the last key.
__device__ __forceinline__ int keys_of(const Params& p, int length, int number) {
    return min(max(length - number * p.block_size, 0), p.block_size);
}

__device__ __forceinline__ uint4 load_key(const Params& p, const Work& work, int position, int chunk) {
    const char* row = p.k.row(work.head, p.cache.place(work.b, position));
    return reinterpret_cast<const uint4*>(row)[chunk];
}

/// Calls visit(chunk of 8 elements) for this thread's run of the keys of a sub-block, in order.
template <typename Visit>
__device__ __forceinline__ void for_each_key(const Params& p, const Work& work, int number, const Visit& visit) {
    constexpr int loads_in_flight = 8;
    const int share = static_cast<int>(threadIdx.x) / p.chunks, chunk = static_cast<int>(threadIdx.x) % p.chunks;
    const int begin = number * p.block_size;
    const int first = begin + share * p.run;
    const int last = min(first + p.run, begin + keys_of(p, work.length, number));
    for (int t = first; t < last; t += loads_in_flight) {
        uint4 loaded[loads_in_flight];
#pragma unroll
        for (int i = 0; i < loads_in_flight; ++i) {
            if (t + i < last) loaded[i] = load_key(p, work, t + i, chunk);
        }
#pragma unroll
        for (int i = 0; i < loads_in_flight; ++i) {
            if (t + i < last) visit(loaded[i]);
        }
    }
}

/// The sums of all runs of a sub-block, [split][head_dim].
template <typename T>
__device__ __forceinline__ void sum_runs(const Params& p, const Work& work, int number, float* partial) {
    float sum[chunk_elements] = {};
    for_each_key(p, work, number, [&](const uint4& key) {
        float x[chunk_elements];
        unpack<T>(key, x);
#pragma unroll
        for (int e = 0; e < chunk_elements; ++e) sum[e] += x[e];
    });
#pragma unroll
    for (int e = 0; e < chunk_elements; ++e) partial[static_cast<int>(threadIdx.x) * chunk_elements + e] = sum[e];
}

__device__ __forceinline__ float mean_of(const Params& p, const float* partial, int keys, int element) {
    float total = 0.0f;
    for (int j = 0; j < p.split; ++j) total += partial[j * p.head_dim + element];
    return total / static_cast<float>(max(keys, 1));
}

template <typename T, Kept Keep>
__global__ void means_kernel(const Params p) {
    extern __shared__ float partial[];  // [split][head_dim]; of Kept::centred a second one, of block 0
    ptx::wait_for_previous_kernel();
    const Work work(p);
    if (!work.any) return;
    float* of_first = partial + p.split * p.head_dim;
    sum_runs<T>(p, work, work.number, partial);
    if constexpr (Keep == Kept::centred) sum_runs<T>(p, work, 0, of_first);
    __syncthreads();
    for (int e = static_cast<int>(threadIdx.x); e < p.head_dim; e += static_cast<int>(blockDim.x)) {
        const float mean = mean_of(p, partial, keys_of(p, work.length, work.number), e);
        if constexpr (Keep == Kept::fp32) {
            static_cast<float*>(p.out)[work.at(p, 0, e)] = mean;
        } else if constexpr (Keep == Kept::centred) {
            const float reference = mean_of(p, of_first, keys_of(p, work.length, 0), e);
            static_cast<T*>(p.out)[work.at(p, 0, e)] = from_float<T>(isfinite(reference) ? mean - reference : mean);
        } else {
            static_cast<T*>(p.out)[work.at(p, 0, e)] = from_float<T>(mean);
        }
    }
}

/// The variants that keep NaN.
template <bool Larger, typename Value>
__device__ __forceinline__ Value better(const Value& a, const Value& b) {
    if constexpr (Larger) return __hmax_nan(a, b);
    return __hmin_nan(a, b);
}
template <bool Larger, typename Pair2>
__device__ __forceinline__ Pair2 better_pair(const Pair2& a, const Pair2& b) {
    if constexpr (Larger) return __hmax2_nan(a, b);
    return __hmin2_nan(a, b);
}

template <typename T, bool Larger>
__device__ __forceinline__ void take(uint4& best, const uint4& key) {
    using P = typename Pair<T>::Type;
    P* kept = reinterpret_cast<P*>(&best);
    const P* other = reinterpret_cast<const P*>(&key);
#pragma unroll
    for (int i = 0; i < 4; ++i) kept[i] = better_pair<Larger>(kept[i], other[i]);
}

/// Of the runs of a sub-block, [split][head_dim].
template <typename T, bool Larger>
__device__ __forceinline__ void store_extreme(const Params& p, const Work& work, const T* partial, int part) {
    if (part < 0) return;
    const int keys = keys_of(p, work.length, work.number);
    for (int e = static_cast<int>(threadIdx.x); e < p.head_dim; e += static_cast<int>(blockDim.x)) {
        T best = keys > 0 ? partial[e] : from_float<T>(0.0f);
        for (int share = 1; share * p.run < keys; ++share) {
            best = better<Larger>(best, partial[share * p.head_dim + e]);
        }
        static_cast<T*>(p.out)[work.at(p, part, e)] = best;
    }
}

template <typename T>
__global__ void extremes_kernel(const Params p) {
    extern __shared__ uint4 runs[];  // [2][split][chunks]: maxima, minima
    ptx::wait_for_previous_kernel();
    const Work work(p);
    if (!work.any) return;
    uint4 high{}, low{};
    bool first = true;
    for_each_key(p, work, work.number, [&](const uint4& key) {
        if (first) high = low = key;
        first = false;
        take<T, true>(high, key);  // the first one too: a NaN has then the same bits wherever it stands
        take<T, false>(low, key);
    });
    uint4* lowest = runs + p.split * p.chunks;
    runs[threadIdx.x] = high;
    lowest[threadIdx.x] = low;
    __syncthreads();
    store_extreme<T, true>(p, work, reinterpret_cast<const T*>(runs), p.maxima);
    store_extreme<T, false>(p, work, reinterpret_cast<const T*>(lowest), p.minima);
}

/// Sub-blocks of a sequence that may belong to a block with new keys.
std::int64_t most_touched(const Problem& problem, std::int64_t appended) {
    const std::int64_t blocks = (appended - 1 + problem.block_size - 1) / problem.block_size + 1;
    return std::min(blocks, problem.longest_blocks()) * problem.scorer.sub_blocks;
}

template <typename T>
Status launch(const Params& p, const Problem& problem, dim3 grid, cudaStream_t stream) {
    const auto threads = static_cast<unsigned>(p.chunks * p.split);
    const std::size_t partial = static_cast<std::size_t>(p.split * p.head_dim) * sizeof(float);
    if (find_scorer(problem.scorer.kind)->part[0].summary != Summary::mean) {
        return launch_early("extremes_kernel", extremes_kernel<T>, grid, threads, partial, stream, p);
    }
    switch (problem.centroids) {
        case Centroids::input_dtype:
            return launch_early("means_kernel", means_kernel<T, Kept::input_dtype>, grid, threads, partial, stream, p);
        case Centroids::fp32:
            return launch_early("means_kernel", means_kernel<T, Kept::fp32>, grid, threads, partial, stream, p);
        case Centroids::centred:
            return launch_early("means_kernel", means_kernel<T, Kept::centred>, grid, threads, 2 * partial, stream, p);
    }
    return {};
}

}  // namespace

Status launch_append(const Problem& problem, const Cache& cache, ConstTensor k, std::int64_t appended, void* centroids,
                     cudaStream_t stream) {
    const PoolingGrid pooling = make_pooling_grid(problem, k, nullptr, pooling_threads);
    Params p;
    p.cache = make_cache_table(problem, cache);
    p.k = rows_of(k);
    p.out = centroids;
    p.heads_k = pooling.heads_k;
    p.head_dim = pooling.head_dim;
    p.block_size = pooling.block_size;
    p.sub_blocks = pooling.sub_blocks;
    p.parts = pooling.parts;
    p.blocks_max = pooling.blocks_max;
    p.appended = static_cast<std::int32_t>(appended);
    p.chunks = pooling.chunks;
    p.run = pooling.run;
    p.split = pooling.split;
    const ScorerDefinition& scorer = *find_scorer(problem.scorer.kind);
    for (int part = 0; part < scorer.parts; ++part) {
        const Summary summary = scorer.part[static_cast<std::size_t>(part)].summary;
        if (summary == Summary::maximum) p.maxima = part;
        if (summary == Summary::minimum) p.minima = part;
    }
    const dim3 grid(static_cast<unsigned>(most_touched(problem, appended) * problem.heads_k),
                    static_cast<unsigned>(problem.batch));
    if (problem.dtype == DataType::bf16) return launch<__nv_bfloat16>(p, problem, grid, stream);
    return launch<__half>(p, problem, grid, stream);
}

}  // namespace mobalab::kernels::cuda
