#pragma once

#include <cstdint>
#include <memory>

#include "analysis/limits.h"
#include "analysis/routing_point.h"
#include "analysis/score_law.h"
#include "analysis/threshold_integral.h"

namespace mobalab::analysis {

// Scores of blocks that are the best of their r sub-blocks of b = B / r keys, for one needle and independent unit keys:
// sums of affinities (analysis/affinity_sum.h) over a sub-block, less b, so that the largest noise score is 0.

/// The best of r independent sums of b affinities: lower tail F^r, F that of T_b, and density.
std::shared_ptr<const ScoreLaw> noise_of_sub_blocks(std::int64_t head_dim, std::int64_t keys, std::int64_t sub_blocks);

/// Tails (no density) of the signal block's score. The m cluster tokens are a uniformly random m-subset of the block's
/// B slots, the needle one of them; a sub-block with a of the others has the sum of their a mu_cluster, of mu_signal if
/// it holds the needle, and of its free keys' affinities. With z counting the m - 1 others and T_n summing n
/// affinities,
///
///     P(S <= s) = 1/C(B-1, m-1) [z^(m-1)]  (sum_a C(b-1, a) z^a P(mu + a mu_c + T_(b-1-a) <= s))
///                                         (sum_a C(b, a) z^a P(a mu_c + T_(b-a) <= s))^(r-1),
///
/// T_0 = 0. The upper tail is the same with "not all of them": kept beside the lower one through every product as
/// (F + Q)(F' + Q') = F F' + (Q (F' + Q') + F Q'). All terms are positive, so that both tails have all their digits.
///
/// A sub-block of cluster tokens alone has a fixed score, where the law jumps: the score asked for must not lie across
/// such a place, Score::low and Score::high say on which side it is.
std::shared_ptr<const ScoreLaw> signal_of_sub_blocks(const RoutingPoint& point);

/// Both, and the places where they are rough. Needs m <= most_sub_block_cluster, 1 <= K <= n_c.
ThresholdProblem sub_block_problem(const RoutingPoint& point);

}  // namespace mobalab::analysis
