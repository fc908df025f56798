#include "experiments/results/column_names.h"

namespace mobalab::experiments {
namespace {

void replace_all(std::string& text, const std::string& from, const std::string& to) {
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
    }
}

std::string short_name(const std::string& name, const std::string& prefix) {
    if (!name.starts_with(prefix)) {
        return name;
    }
    const std::string rest = name.substr(prefix.size());
    return rest == "miss_low" ? "low" : rest == "miss_high" ? "high" : rest;
}

}  // namespace

std::vector<Column> without_prefix(std::vector<Column> columns, const std::string& prefix) {
    for (Column& column : columns) {
        column.name = short_name(column.name, prefix);
        replace_all(column.long_name, prefix, "");
        replace_all(column.definition, prefix, "");
    }
    return columns;
}

void rename_from_version_1(Results& results) {
    for (Table& table : results.tables) {
        if (table.name == "simulate" || table.name == "route") {
            table.columns = without_prefix(std::move(table.columns), table.name == "simulate" ? "sim_" : "kernel_");
        }
    }
}

Column seed_column(std::uint64_t seed, std::size_t rows) {
    return {"seed", "seed of the random streams", "1",
            std::vector<std::int64_t>(rows, static_cast<std::int64_t>(seed))};
}

}  // namespace mobalab::experiments
