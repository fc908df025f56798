#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "experiments/table_text.h"

namespace mobalab::experiments {

/// The columns of point_columns() as people read them.
std::vector<ShownColumn> point_parameters();

/// The columns of theory_columns() as people read them.
std::vector<ShownColumn> theory_answers();

/// json_table() of a table computed with a seed, which every row then carries as its last key.
std::string json_of_run(const Table& table, std::uint64_t seed, const std::map<std::string, std::string>& rename);

}  // namespace mobalab::experiments
