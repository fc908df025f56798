#pragma once

#include <cstdint>

#include "experiments/probe/kernel_under_test.h"
#include "experiments/probe/probe_plan.h"

namespace mobalab::experiments {

// Two rules of the router that random needles hardly see: exact ties have probability nothing there, and one candidate
// more or less moves a hit probability by about 1/c. Here the answer is known exactly: keys and queries are made of
// numbers whose sums and products are exact in every dtype and in every order of summation (queries are unit vectors
// along one axis, all keys of a block are equal), so every row of the selection is compared entry by entry.

/// Whether the scorer looks at tensors: then a block whose keys all have affinity a to the query has score a (that is
/// so for means, ends of ranges and the best of them), and the rules below can be checked.
bool follows_scores(const kernels::Scorer& scorer);

struct RuleCheck {
    std::int64_t rows = 0;        ///< selections compared
    std::int64_t violations = 0;  ///< rows that differ from the rule in any entry
};

/// Few score levels, so that every selection cuts through groups of equal scores: the higher block index must win.
RuleCheck check_tie_rule(const ProbeShape& shape, std::int64_t topk, const KernelUnderTest& kernel);

/// The newer a block, the better its score, own block included; queries stand on both sides of every block boundary and
/// in the partial last block. Exactly the blocks that end before the query's own block may be chosen, newest first.
RuleCheck check_candidate_rule(const ProbeShape& shape, std::int64_t topk, const KernelUnderTest& kernel);

}  // namespace mobalab::experiments
