#pragma once

#include <vector>

#include "experiments/table_text.h"

namespace mobalab::experiments {

/// The columns of point_columns() as people read them.
std::vector<ShownColumn> point_parameters();

/// The columns of theory_columns() as people read them.
std::vector<ShownColumn> theory_answers();

}  // namespace mobalab::experiments
