#pragma once

#include <vector>

#include "analysis/routing_point.h"
#include "experiments/cli/subcommand.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// The table of points with the column adjusted_p, the smallest of each point's comparisons; as it is where it has one.
Table with_adjusted_p(const Table& points, const Table& comparisons);

/// Prints what `mobalab validate` found: the tables "validate" (when it is not too long to read) and the verdict on
/// "validate_comparisons", with the worst disagreements and commands that repeat their points. Returns the exit code:
/// exit_ok when every adjusted p is at least `alpha`, else exit_disagree.
int report_validation(const Table& points, const Table& comparisons, const std::vector<analysis::RoutingPoint>& grid,
                      double alpha, const Arguments& arguments, Terminal& terminal);

}  // namespace mobalab::experiments
