#pragma once

#include <string>
#include <vector>

#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// A column of a table shown to people.
struct ShownColumn {
    std::string name;              ///< in the table's columns
    std::string header;            ///< over the numbers
    bool zero_is_nothing = false;  ///< a column of zeros says nothing and is left out
};

/// Human table: parameters that the table has and that are the same in every row go in one line above it, the other
/// parameters and all answers are right-aligned columns. Real numbers keep six digits; what a row does not have (NaN,
/// Column::missing) is a dash.
std::string human_table(const Table& table, const std::vector<ShownColumn>& parameters,
                        const std::vector<ShownColumn>& answers);

/// JSON array with one object a row, keys are the names of the columns in their order; NaN, infinities and what a row
/// does not have are null.
std::string json_table(const Table& table);

}  // namespace mobalab::experiments
