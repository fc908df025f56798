#include "kernels/cuda/pooling/extremes.h"

#include "kernels/cuda/host/status.h"
#include "kernels/cuda/pooling/pooling_grid.cuh"

// Memory-bound like the means, with two channels an instruction: an extreme of 16-bit keys is one of them, so nothing
// is rounded and the order does not matter.
namespace mobalab::kernels::cuda {
namespace {

constexpr int loads_in_flight = 8;

struct Params {
    PoolingGrid grid;
    void* maxima;
    void* minima;
};

// The variants that keep NaN.
struct Larger {
    template <typename Value>
    __device__ __forceinline__ Value operator()(const Value& a, const Value& b) const {
        return __hmax_nan(a, b);
    }
    __device__ __forceinline__ __nv_bfloat162 operator()(const __nv_bfloat162& a, const __nv_bfloat162& b) const {
        return __hmax2_nan(a, b);
    }
    __device__ __forceinline__ __half2 operator()(const __half2& a, const __half2& b) const {
        return __hmax2_nan(a, b);
    }
};
struct Smaller {
    template <typename Value>
    __device__ __forceinline__ Value operator()(const Value& a, const Value& b) const {
        return __hmin_nan(a, b);
    }
    __device__ __forceinline__ __nv_bfloat162 operator()(const __nv_bfloat162& a, const __nv_bfloat162& b) const {
        return __hmin2_nan(a, b);
    }
    __device__ __forceinline__ __half2 operator()(const __half2& a, const __half2& b) const {
        return __hmin2_nan(a, b);
    }
};

template <typename T, typename Better>
__device__ __forceinline__ void take(uint4& best, const uint4& chunk) {
    using P = typename Pair<T>::Type;
    P* kept = reinterpret_cast<P*>(&best);
    const P* other = reinterpret_cast<const P*>(&chunk);
#pragma unroll
    for (int i = 0; i < 4; ++i) kept[i] = Better{}(kept[i], other[i]);
}

template <typename T>
__device__ __forceinline__ uint4 load(const T* k, std::int64_t stride_token, int token) {
    return __ldg(reinterpret_cast<const uint4*>(k + token * stride_token));
}

/// Of the blocks of a thread block, from the extremes of its threads' runs [block][split][head_dim].
template <typename T, typename Better>
__device__ __forceinline__ void store(const PoolingGrid& p, const PoolingWork<true>& work, const T* partial, T* out) {
    for (int i = static_cast<int>(threadIdx.x); i < p.blocks_per_group * p.head_dim;
         i += static_cast<int>(blockDim.x)) {
        const int local = i / p.head_dim, element = i % p.head_dim;
        if (work.block0 + local >= work.blocks) break;
        const int keys = work.keys(p, work.block0 + local);
        T best = from_float<T>(0.0f);
        if (keys > 0) best = partial[local * p.split * p.head_dim + element];
        for (int share = 1; share * p.run < keys; ++share) {
            best = Better{}(best, partial[(local * p.split + share) * p.head_dim + element]);
        }
        out[work.at(p, work.block0 + local, element)] = best;
    }
}

template <typename T, bool Maxima, bool Minima>
__global__ void __launch_bounds__(pooling_threads) extremes_kernel(const Params params) {
    extern __shared__ uint4 raw[];  // [Maxima + Minima][block][split][head_dim]
    const PoolingGrid& p = params.grid;
    const PoolingWork<true> work(p);
    if (work.block0 >= work.blocks) return;
    T* largest = reinterpret_cast<T*>(raw);
    T* smallest = largest + (Maxima ? p.blocks_per_group * p.split * p.head_dim : 0);

    if (work.first < work.last) {
        const T* k = static_cast<const T*>(p.k) + p.stride.at(work.sequence.k.batch, work.sequence.k.token, work.head) +
                     work.chunk * chunk_elements;
        uint4 high = load(k, p.stride.token, work.first), low = high;
        for (int t = work.first; t < work.last; t += loads_in_flight) {
            uint4 chunk[loads_in_flight];
#pragma unroll
            for (int i = 0; i < loads_in_flight; ++i) {
                chunk[i] = load(k, p.stride.token, min(t + i, work.last - 1));  // the last one again changes nothing
            }
#pragma unroll
            for (int i = 0; i < loads_in_flight; ++i) {
                if constexpr (Maxima) take<T, Larger>(high, chunk[i]);
                if constexpr (Minima) take<T, Smaller>(low, chunk[i]);
            }
        }
        const int at = (work.local * p.split + work.share) * p.head_dim + work.chunk * chunk_elements;
        if constexpr (Maxima) *reinterpret_cast<uint4*>(largest + at) = high;
        if constexpr (Minima) *reinterpret_cast<uint4*>(smallest + at) = low;
    }
    __syncthreads();
    if constexpr (Maxima) store<T, Larger>(p, work, largest, static_cast<T*>(params.maxima));
    if constexpr (Minima) store<T, Smaller>(p, work, smallest, static_cast<T*>(params.minima));
}

template <typename T, bool Maxima, bool Minima>
void launch(const Params& p, cudaStream_t stream) {
    const std::size_t shared = (Maxima + Minima) * p.grid.partial_elements() * sizeof(T);
    extremes_kernel<T, Maxima, Minima><<<p.grid.thread_blocks(), p.grid.threads(), shared, stream>>>(p);
}

template <typename T>
void launch_wanted(const Params& p, cudaStream_t stream) {
    if (p.minima == nullptr) {
        launch<T, true, false>(p, stream);
    } else if (p.maxima == nullptr) {
        launch<T, false, true>(p, stream);
    } else {
        launch<T, true, true>(p, stream);
    }
}

}  // namespace

Status launch_extremes(const Problem& problem, ConstTensor k, const std::int32_t* block_base, void* maxima,
                       void* minima, cudaStream_t stream) {
    const Params p = {make_pooling_grid(problem, k, block_base, pooling_threads), maxima, minima};
    if (problem.dtype == DataType::bf16) {
        launch_wanted<__nv_bfloat16>(p, stream);
    } else {
        launch_wanted<__half>(p, stream);
    }
    return launch_status("extremes_kernel");
}

}  // namespace mobalab::kernels::cuda
