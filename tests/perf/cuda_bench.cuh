#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/cuda/cuda_memory.h"

// What the benchmarks of the CUDA backend share.
namespace mobalab::kernels::bench_support {

/// What every benchmark times: batch 2, as many key heads as query heads, causal, bf16.
inline Problem make_problem(std::int64_t n, std::int64_t heads, std::int64_t d, std::int64_t block, std::int64_t k) {
    Problem p;
    p.batch = 2;
    p.seqlen_q = p.seqlen_k = n;
    p.heads_q = p.heads_k = heads;
    p.head_dim = d;
    p.block_size = block;
    p.topk = k;
    p.dtype = DataType::bf16;
    return p;
}

/// All of make_problem()'s tensors, for kernels that want their strides resolved.
inline Tensor contiguous_rows(const Problem& p, void* data) {
    const std::int64_t token = p.heads_q * p.head_dim;
    return {data, p.seqlen_q * token, token, p.head_dim};
}

/// Standard normal number i of a seed; the same for the same seed.
inline __device__ float normal(std::int64_t i, std::uint64_t seed) {
    std::uint64_t x = (static_cast<std::uint64_t>(i) + seed * 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    const float u = (static_cast<float>(x >> 40) + 0.5f) * 0x1p-24f, v = static_cast<float>(x & 0xffffff) * 0x1p-24f;
    return sqrtf(-2.0f * logf(u)) * cospif(2.0f * v);
}

inline __global__ void fill_normal(__nv_bfloat16* out, std::int64_t count, std::uint64_t seed) {
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
        out[i] = __float2bfloat16(normal(i, seed));
    }
}

/// Median of CUDA events after two runs that are not counted: 5 runs, or up to 21 while they take less than 60 ms.
inline double median_ms(const std::function<void()>& run) {
    using testing_support::check_cuda;
    cudaEvent_t begin, end;
    check_cuda(cudaEventCreate(&begin), "event");
    check_cuda(cudaEventCreate(&end), "event");
    for (int i = 0; i < 2; ++i) run();
    std::vector<float> times;
    float total = 0.0f;
    while (times.size() < 5 || (times.size() < 21 && total < 60.0f)) {
        float ms = 0.0f;
        check_cuda(cudaEventRecord(begin), "record");
        run();
        check_cuda(cudaEventRecord(end), "record");
        check_cuda(cudaEventSynchronize(end), "synchronize");
        check_cuda(cudaEventElapsedTime(&ms, begin, end), "elapsed");
        times.push_back(ms);
        total += ms;
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
    return times[times.size() / 2];
}

/// Of one of some calls in a row of a CUDA graph: what the device takes, where the host would be slower.
inline double graph_ms(const std::function<void(cudaStream_t)>& run) {
    using testing_support::check_cuda;
    constexpr int calls = 20;
    cudaStream_t stream;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < calls; ++i) run(stream);
    cudaGraph_t graph;
    check_cuda(cudaStreamEndCapture(stream, &graph), "capture");
    cudaGraphExec_t replay;
    check_cuda(cudaGraphInstantiate(&replay, graph, 0), "graph");
    const double ms = median_ms([&] { check_cuda(cudaGraphLaunch(replay, nullptr), "graph"); }) / calls;
    cudaGraphExecDestroy(replay);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    return ms;
}

inline void must(const Status& s) {
    if (!s.ok()) throw std::runtime_error(s.message);
}

}  // namespace mobalab::kernels::bench_support
