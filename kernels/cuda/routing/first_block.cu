#include "kernels/cuda/routing/first_block.h"

#include "kernels/cuda/host/status.h"
#include "kernels/cuda/tile/candidates.h"
#include "kernels/cuda/tile/sequences.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr int threads = 256;

/// Grid: rows of a sequence, heads, sequences. keeps: block 0, in the first of the slots.
__global__ void __launch_bounds__(threads)
    first_block_kernel(const Sequences sequences, const Candidates candidates, std::int64_t tokens_q, int slots,
                       bool keeps, std::int32_t* selection, float* scores) {
    const Sequence sequence = sequences.at(static_cast<std::int32_t>(blockIdx.z));
    const auto row = static_cast<std::int32_t>(blockIdx.x * threads + threadIdx.x);
    if (row >= sequence.sq) return;
    const bool is_candidate = candidates.of_row(sequence, row) > 0;
    const std::int64_t at = (blockIdx.y * tokens_q + sequence.q_begin + row) * slots;
    for (int slot = 0; slot < slots; ++slot) {
        const bool kept = keeps && is_candidate && slot == 0;
        selection[at + slot] = kept ? 0 : -1;
        if (scores != nullptr) scores[at + slot] = kept ? INFINITY : -INFINITY;
    }
}

}  // namespace

Status launch_first_block(const Problem& problem, std::int32_t* selection, float* scores, cudaStream_t stream) {
    const dim3 grid(static_cast<unsigned>((problem.seqlen_q + threads - 1) / threads),
                    static_cast<unsigned>(problem.heads_q), static_cast<unsigned>(problem.batch));
    first_block_kernel<<<grid, threads, 0, stream>>>(make_sequences(problem), Candidates(problem), problem.tokens_q(),
                                                     static_cast<int>(problem.routed()), problem.keep_first, selection,
                                                     scores);
    return launch_status("first_block_kernel");
}

}  // namespace mobalab::kernels::cuda
