#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "analysis/routing_point.h"
#include "experiments/cli/subcommand.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// --model --head-dim --block-size --seq-len --candidates --topk --mu-signal --mu-noise --mu-cluster --cluster-size,
/// then grid_flags().
std::vector<Flag> point_flags();

/// The same without the flags named; for commands that set those themselves (the kernel has no --model).
std::vector<Flag> point_flags_without(const std::vector<std::string>& names);

/// What makes a grid of those lists: --budget --points --skip-impossible.
std::vector<Flag> grid_flags();

/// What goes beyond the paper's setting (analysis::RoutingPoint): --needles --goal, --key-correlation and what else
/// keys along a text have (--key-memory --key-mean --query-mean --effective-dim --sink), and --key-conv --key-conv-tap
/// --key-conv-activation for commands that can do a convolution.
std::vector<Flag> needle_flags();
std::vector<Flag> text_flags();
std::vector<Flag> scorer_flags();  ///< --scorer
std::vector<Flag> key_conv_flags();

/// The points a command was asked for.
struct PointGrid {
    std::vector<analysis::RoutingPoint> points;
    bool by_budget = false;           ///< topk was asked for as --budget / block_size
    bool skips = false;               ///< --skip-impossible
    std::int64_t left_out = 0;        ///< impossible points
    std::string first_left_out = {};  ///< the rule the first of them breaks

    /// Adds what the table should say of the grid: where topk was asked for by a budget the column `budget` (keys a
    /// query attends to at most, topk * block_size) behind `topk`; with --skip-impossible the attributes `left_out` and
    /// `first_left_out`.
    void describe(Table& table) const;

    /// For the text a task is known by: what describe() adds; empty where it adds nothing.
    std::string task_text() const;

    /// Says on terminal.err how many points were left out and why the first one.
    void report(const std::string& command, Terminal& terminal) const;
};

/// Cross product of the lists the user gave, in the order of the flags above (the last varies fastest). Points asked
/// for by --seq-len carry it and get candidates_of_last_query(). Flags the command does not have keep RoutingPoint's
/// default.
///
/// --points FILE: each row of a CSV file is a point, its columns are named like the flags (head-dim or head_dim); what
/// it has no column of comes from the flags, whose lists every row is combined with. A flag given beside its column is
/// an error, and so is an empty cell or a row that says what an earlier one said.
///
/// --budget: topk = budget / block_size, which must be whole.
///
/// Throws InputError naming every impossible combination (the first few, then their number): topk above the number of
/// blocks, cluster above the block, no past block, a budget the block size does not divide, and analysis::validate()'s
/// rules. With --skip-impossible such points are left out, unless none is left; a value that no point may have is an
/// error all the same.
///
/// `unknown` names a flag that is solved for (topk, block-size, ...): its values are not looked at, and the points
/// carry the least constraining one, topk 1 and block_size = cluster_size.
PointGrid routing_grid(const Arguments& arguments, const std::string& unknown = "");

/// Its points.
std::vector<analysis::RoutingPoint> point_grid(const Arguments& arguments, const std::string& unknown = "");

/// Columns model, head_dim, block_size, seq_len, candidates, topk, cluster_size, mu_signal, mu_noise, mu_cluster,
/// delta_mu_eff: the points themselves; then, where some point has more than one needle, needles and goal, where some
/// point's keys are correlated, key_correlation, where some point has them key_memory, key_mean, query_mean,
/// effective_dim and sink, and where some point's are convolved, key_conv, key_conv_tap and
/// key_conv_activation, and where some point is not scored by the mean, scorer.
std::vector<Column> point_columns(const std::vector<analysis::RoutingPoint>& points);

/// Columns snr, pairwise_miss, reliable_snr, hit_probability, miss_probability, log_miss_probability, and where some
/// scorer has one the labelled approximation approximate_miss_probability: paper and exact
/// theory at these points (analysis room), on `threads` threads (0: all). NaN where the exact probability is not known.
/// `done` hears how many points are, from one thread at a time. Throws Interrupted.
using PointsDone = std::function<void(std::size_t)>;
std::vector<Column> theory_columns(const std::vector<analysis::RoutingPoint>& points, int threads = 0,
                                   const PointsDone& done = {});

}  // namespace mobalab::experiments
