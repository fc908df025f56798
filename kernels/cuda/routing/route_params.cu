#include "kernels/cuda/routing/route_params.h"

#include <bit>

namespace mobalab::kernels::cuda {

RouteParams make_route_params(const Problem& problem, const std::int32_t* block_base, float* stored,
                              std::int32_t* selection, float* scores) {
    RouteParams p{};
    p.sequences = make_sequences(problem);
    p.heads_q = static_cast<std::int32_t>(problem.heads_q);
    p.heads_per_key_head = static_cast<std::int32_t>(problem.heads_q / problem.heads_k);
    p.blocks = Candidates(problem);
    const std::int64_t blocks_of_rows = (route_warp_rows - 1 + problem.block_size - 1) / problem.block_size;
    p.ragged = static_cast<std::int32_t>((blocks_of_rows - 1) * problem.scorer.sub_blocks);
    p.slots = static_cast<std::int32_t>(problem.scored());
    p.slots_inverse = ((1u << 20) + static_cast<std::uint32_t>(p.slots) - 1) / static_cast<std::uint32_t>(p.slots);
    p.first_block = problem.keep_first ? 1 : 0;
    p.columns_max = static_cast<std::int32_t>(problem.longest_blocks() * problem.scorer.sub_blocks);
    p.column_base = block_base;
    p.tokens_q = problem.tokens_q();
    p.selection = selection;
    p.scores = scores;
    p.all_scores = stored;
    p.seed = problem.scorer.seed;
    p.sub_shift = std::countr_zero(static_cast<std::uint32_t>(problem.scorer.sub_blocks));
    if (!problem.causal && problem.scorer.sub_blocks > 1) {
        p.sub_block_keys = static_cast<std::int32_t>(problem.block_size / problem.scorer.sub_blocks);
        p.sub_blocks = BlockDivisor(p.sub_block_keys);
    }
    return p;
}

}  // namespace mobalab::kernels::cuda
