#pragma once

#include <vector>

#include "experiments/advise/advice.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// Table `advise`, a row a setting; where there is a trace also `advise_heads`, a row a head for the chosen setting,
/// and `advise_frontier_heads`, a row for every setting of the frontier and head: what each would lose.
std::vector<Table> advice_tables(const Evidence& evidence, const Advice& advice, double dense_below);

/// The rows of table `advise` on the frontier, by cost.
Table frontier_table(const Evidence& evidence, const Advice& advice);

}  // namespace mobalab::experiments
