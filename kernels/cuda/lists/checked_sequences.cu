#include "kernels/cuda/lists/checked_sequences.h"

#include "kernels/cuda/host/status.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr int threads = 1024;

/// Boundary b and the sequence that ends there.
__device__ bool follows_the_rules(const Sequences& s, int b) {
    const std::int32_t q = s.cu_seqlens_q[b], k = s.cu_seqlens_k[b];
    if (b == 0) return q == 0 && k == 0;
    const std::int64_t sq = static_cast<std::int64_t>(q) - s.cu_seqlens_q[b - 1];
    const std::int64_t sk = static_cast<std::int64_t>(k) - s.cu_seqlens_k[b - 1];
    const bool ends_well = b < s.batch || (q == s.total_q && k == s.total_k);
    return sq >= 0 && sq <= s.seqlen_q && sk >= 0 && sk <= s.seqlen_k && ends_well;
}

/// One thread block. checked: [2][batch + 1], queries first.
__global__ void __launch_bounds__(threads) check_sequences_kernel(const Sequences s, std::int32_t* checked) {
    bool good = true;
    for (int b = static_cast<int>(threadIdx.x); b <= s.batch; b += threads) good = good && follows_the_rules(s, b);
    good = __syncthreads_and(good) != 0;
    for (int b = static_cast<int>(threadIdx.x); b <= s.batch; b += threads) {
        checked[b] = good ? s.cu_seqlens_q[b] : 0;
        checked[s.batch + 1 + b] = good ? s.cu_seqlens_k[b] : 0;
    }
}

}  // namespace

std::size_t checked_sequences_size(const Problem& problem) {
    if (problem.cu_seqlens_k == nullptr) return 0;
    return 2 * static_cast<std::size_t>(problem.batch + 1) * sizeof(std::int32_t);
}

Status checked_sequences(const Problem& problem, void* workspace, cudaStream_t stream, Sequences& sequences) {
    sequences = make_sequences(problem);
    if (problem.cu_seqlens_k == nullptr) return {};
    auto* const checked = static_cast<std::int32_t*>(workspace);
    check_sequences_kernel<<<1, threads, 0, stream>>>(sequences, checked);
    sequences.cu_seqlens_q = checked;
    sequences.cu_seqlens_k = checked + problem.batch + 1;
    return launch_status("check_sequences_kernel");
}

}  // namespace mobalab::kernels::cuda
