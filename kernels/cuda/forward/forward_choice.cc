#include "kernels/cuda/forward/forward_choice.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/forward/attention.h"
#include "kernels/cuda/forward/masked_forward.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr std::int64_t widest_masked = 128;

// Seconds that one H200 takes (tests/perf/NOTES_cuda_attention.md, "Query-major under a mask"), all of its
// multiprocessors at work where not said otherwise.
constexpr double list_launches = 35e-6, query_launch = 5e-6;
constexpr double list_of_slot = 20e-12;                      // a selected block of a query: its way to its list
constexpr double thread_block = 8e-9;                        // an empty one too: of sequences shorter than the longest
constexpr double query_row = 0.19e-9, mask_of_slot = 6e-12;  // a query: its share of a thread block's beginning and end
constexpr double multiprocessors = 132;

/// What hangs on the width.
struct Rates {
    double partial;        ///< a query and a run: product, its way to memory and back
    double short_partial;  ///< the same of a short run
    double span;           ///< and of a span
    double key;            ///< a query and a key it goes past, selected or not
};
Rates rates_of(const Problem& problem) {
    return masked_width(problem) == 64 ? Rates{0.17e-9, 0.15e-9, 0.23e-9, 0.65e-12}
                                       : Rates{0.245e-9, 0.20e-9, 0.33e-9, 0.86e-12};
}

/// Keys before a query, on average.
double keys_seen(const Problem& problem) {
    const auto sq = static_cast<double>(problem.seqlen_q), sk = static_cast<double>(problem.seqlen_k);
    if (!problem.causal) return sk;
    return sk >= sq ? sk - sq / 2 : sk * sk / (2 * sq);
}

/// Of a query, if its blocks are random ones of those that it sees.
double partials_of_query(const Problem& problem, const ForwardShape& shape, double seen) {
    const double blocks = seen / static_cast<double>(problem.block_size);
    const double routed = std::min(static_cast<double>(problem.routed()), blocks);
    const double own = problem.causal ? 1.0 : 0.0;
    if (problem.block_size >= keys_per_run) {
        const double spans = std::ceil(static_cast<double>(problem.block_size) / keys_per_span);
        return routed * spans + own * (spans + 1) / 2;
    }
    const double lists = std::max(seen / static_cast<double>(keys_of_list(problem.block_size, shape.shared_list)), 1.0);
    return lists * (1.0 - std::pow(1.0 - 1.0 / lists, routed)) + own;
}

double seconds_by_lists(const Problem& problem, double queries, double seen) {
    const Rates rates = rates_of(problem);
    const ForwardShape shape = hopper_forward_shape(problem);
    const double partial = shape.keys_per_run == keys_per_short_run ? rates.short_partial
                           : problem.block_size > keys_per_run      ? rates.span
                                                                    : rates.partial;
    return list_launches + queries * (static_cast<double>(problem.routed()) * list_of_slot +
                                      partials_of_query(problem, shape, seen) * partial);
}

/// The thread block of the longest rows has one multiprocessor.
double seconds_by_queries(const Problem& problem, double queries, double seen) {
    const Rates rates = rates_of(problem);
    const double row = query_row + static_cast<double>(problem.routed()) * mask_of_slot;
    const double all =
        static_cast<double>(masked_thread_blocks(problem)) * thread_block + queries * (row + seen * rates.key);
    const double longest = masked_rows * multiprocessors * (row + static_cast<double>(problem.seqlen_k) * rates.key);
    return query_launch + std::max(all, longest);
}

}  // namespace

bool queries_can(const Problem& problem) {
    const std::int64_t block = problem.block_size;
    if (block != 16 && block != 32 && block != 64 && block % keys_per_run != 0) return false;
    if (problem.tokens_k() == 0 || std::max(problem.head_dim, problem.value_dim()) > widest_masked) return false;
    if (masked_thread_blocks(problem) > std::numeric_limits<std::int32_t>::max()) return false;
    return masked_forward_bytes(make_mask_layout(problem), masked_width(problem)) <= hopper_shared_memory;
}

ForwardAlgorithm choose_forward(const Problem& problem, CudaPath path, std::optional<ForwardAlgorithm> asked) {
    if (path != CudaPath::hopper || asked == ForwardAlgorithm::lists || !queries_can(problem)) {
        return ForwardAlgorithm::lists;
    }
    if (asked == ForwardAlgorithm::queries) return ForwardAlgorithm::queries;
    const auto queries = static_cast<double>(problem.tokens_q() * problem.heads_q);
    const double seen = keys_seen(problem);
    return seconds_by_queries(problem, queries, seen) <= seconds_by_lists(problem, queries, seen)
               ? ForwardAlgorithm::queries
               : ForwardAlgorithm::lists;
}

}  // namespace mobalab::kernels::cuda
