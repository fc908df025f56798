#pragma once

#include <vector>

#include "experiments/cli/subcommand.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {

/// The columns of point_columns() as people read them.
std::vector<ShownColumn> point_parameters();

/// The columns of theory_columns() as people read them.
/// (Approximations only where the table has some.)
std::vector<ShownColumn> theory_answers(const Table& table);

/// The columns of a table of simulated points: what is asked and what is answered.
std::vector<ShownColumn> simulated_parameters();
std::vector<ShownColumn> simulated_answers();

/// Prints the table for a program where --json or --csv asks for that; false where neither does.
bool print_for_program(const Table& table, const Arguments& arguments, Terminal& terminal);

}  // namespace mobalab::experiments
