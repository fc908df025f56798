#pragma once

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// The column get(row) of every row; its type (int64, double or string) is that of get.
template <typename Row, typename Get>
Column make_column(const std::vector<Row>& rows, std::string name, std::string long_name, Get get,
                   std::string definition = {}) {
    using Value = std::decay_t<std::invoke_result_t<Get, const Row&>>;
    std::vector<Value> values(rows.size());
    std::transform(rows.begin(), rows.end(), values.begin(), get);
    return {.name = std::move(name),
            .long_name = std::move(long_name),
            .units = std::is_same_v<Value, std::string> ? "" : "1",
            .values = std::move(values),
            .definition = std::move(definition)};
}

}  // namespace mobalab::experiments
