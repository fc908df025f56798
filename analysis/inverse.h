#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "analysis/reach_search.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {

/// Inverse questions: the other fields of `point` stay, one is solved for so that the exact hit probability is at least
/// `wanted_hit` (0 < wanted_hit < 1). The value of the field in `point` is not looked at. Each throws InputError for a
/// bad point or wanted_hit, where no value of the range makes a valid point, and for a scorer without an exact law.

/// Every value of a field that reaches the wanted hit probability.
template <typename Value>
struct Reaching {
    std::vector<Range<Value>> intervals;  ///< ascending, apart; empty where none reaches
    Range<Value> searched;                ///< the values of the field that were asked about
    Value nearest;                        ///< the value with the largest hit probability found

    bool any() const { return !intervals.empty(); }
};

/// head_dim in [2, 65536]. In the normal models the hit probability is monotone in head_dim (its sign is that of
/// delta_mu_eff; analysis/hit_problem.h), and one end is bisected. Of unit keys it is not: narrow heads have broad,
/// lighter-tailed affinities, which can help a weak signal more than width does. There ReachSearch looks at every
/// head_dim up to 17 and at pieces beyond.
Reaching<std::int64_t> head_dims_that_reach(RoutingPoint point, double wanted_hit);

/// block_size from cluster_size to 65536; with point.seq_len > 0, where candidates are candidates_of_last_query(), from
/// the smallest with at most 1e6 candidates to the largest with a past block for every needle.
///
/// Neither is monotone: at fixed candidates a signal below the threshold gains from the noise of a longer block, and
/// along a sequence longer blocks also mean fewer rivals. More candidates never help (a rival more takes slots, never
/// gives one), so ReachSearch brackets the saw tooth that whole numbers of blocks make.
///
/// Throws InputError for a scorer that divides blocks (only some block sizes can be divided).
struct ReachingBlockSizes : Reaching<std::int64_t> {
    /// From this block_size on the router has no choice (candidates <= routed): every block is kept and every needle
    /// found. Beyond searched.high where there is no such size.
    std::int64_t trivial_from;

    /// Largest block_size that reaches and leaves a choice; where none of the range leaves one, the largest of all.
    std::optional<std::int64_t> largest() const;
};
ReachingBlockSizes block_sizes_that_reach(RoutingPoint point, double wanted_hit);

/// topk in [1, min(512, candidates + 1)]. Monotone: the blocks kept with a larger topk include those kept with a
/// smaller one.
Reaching<std::int64_t> topks_that_reach(RoutingPoint point, double wanted_hit);

/// mu_signal in [0, 1]. Monotone: it moves the scores of all signal blocks up and changes nothing else. The lower end
/// is found to 1e-9 absolute (the value returned reaches wanted_hit).
Reaching<double> mu_signals_that_reach(RoutingPoint point, double wanted_hit);

}  // namespace mobalab::analysis
