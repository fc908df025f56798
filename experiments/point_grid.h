#pragma once

#include <functional>
#include <string>
#include <vector>

#include "analysis/routing_point.h"
#include "experiments/results_file.h"
#include "experiments/subcommand.h"

namespace mobalab::experiments {

/// --model --head-dim --block-size --seq-len --candidates --topk --mu-signal --mu-noise --mu-cluster --cluster-size.
std::vector<Flag> point_flags();

/// The same without the flags named; for commands that set those themselves (the kernel has no --model).
std::vector<Flag> point_flags_without(const std::vector<std::string>& names);

/// What goes beyond the paper's setting (analysis::RoutingPoint): --needles --goal --key-correlation, and --key-conv
/// --key-conv-tap --key-conv-activation for commands that can do a convolution.
std::vector<Flag> needle_flags();
std::vector<Flag> key_conv_flags();

/// Cross product of the lists the user gave, in the order of the flags above (the last varies fastest). Points asked
/// for by --seq-len carry it and get candidates_of_last_query(). Flags the command does not have keep RoutingPoint's
/// default. Throws InputError naming every impossible combination (the first few, then their number): topk above the
/// number of blocks, cluster above the block, no past block, and analysis::validate()'s rules.
///
/// `unknown` names a flag that is solved for (topk, block-size, ...): its values are not looked at, and the points
/// carry the least constraining one, topk 1 and block_size = cluster_size.
std::vector<analysis::RoutingPoint> point_grid(const Arguments& arguments, const std::string& unknown = "");

/// Columns model, head_dim, block_size, seq_len, candidates, topk, cluster_size, mu_signal, mu_noise, mu_cluster,
/// delta_mu_eff: the points themselves; then, where some point has more than one needle, needles and goal, where some
/// point's keys are correlated, key_correlation, and where some point's are convolved, key_conv, key_conv_tap and
/// key_conv_activation.
std::vector<Column> point_columns(const std::vector<analysis::RoutingPoint>& points);

/// Columns snr, pairwise_miss, reliable_snr, hit_probability, miss_probability, log_miss_probability: paper and exact
/// theory at these points (analysis room). NaN where the exact probability is not known. `done` hears how many points
/// are, from one thread at a time. Throws Interrupted.
using PointsDone = std::function<void(std::size_t)>;
std::vector<Column> theory_columns(const std::vector<analysis::RoutingPoint>& points, const PointsDone& done = {});

}  // namespace mobalab::experiments
