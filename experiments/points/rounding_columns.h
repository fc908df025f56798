#pragma once

#include <vector>

#include "analysis/routing_point.h"
#include "experiments/cli/subcommand.h"
#include "experiments/results/results_file.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {

/// --shared-mean
std::vector<Flag> rounding_flags();

/// The shared means that were asked for; empty where the flag was not given. Throws InputError.
std::vector<double> shared_means(const Arguments& arguments);

/// Each point once for each shared mean, which varies fastest. Throws InputError for a point that rounding has no
/// theory of: another scorer than mean, model text.
std::vector<analysis::RoutingPoint> with_each_mean(const std::vector<analysis::RoutingPoint>& points,
                                                   const std::vector<double>& means);

/// Columns shared_mean, changed_bf16, changed_fp16 (analysis/centroid_rounding.h) of the points that with_each_mean()
/// returned: of the rows of a sequence where a point has seq_len, else of rows with its candidates. On `threads`
/// threads (0: all). Throws Interrupted.
std::vector<Column> rounding_columns(const std::vector<analysis::RoutingPoint>& points,
                                     const std::vector<double>& means, int threads);

/// These columns as people read them.
std::vector<ShownColumn> rounding_answers();

}  // namespace mobalab::experiments
