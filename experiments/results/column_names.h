#pragma once

#include <map>
#include <string>
#include <vector>

#include "experiments/results/results_file.h"

namespace mobalab::experiments {

// The columns of a table have one name, in the results file, in JSON and in CSV. Where a table is about one estimate
// (simulate, route) they are short: trials, misses, miss, low, high. The table validate, which holds several, has
// sim_trials and kernel_trials beside each other.

/// Columns of kernel_columns() under the short names of the table route: kernel_miss_low is low.
std::vector<Column> without_prefix(std::vector<Column> columns, const std::string& prefix);

/// Gives the columns of a file of schema version 1 their present names.
void rename_from_version_1(Results& results);

/// The seed as a column of its own, the same in every row of a table of so many.
Column seed_column(std::uint64_t seed, std::size_t rows);

}  // namespace mobalab::experiments
