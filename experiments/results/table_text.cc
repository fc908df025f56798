#include "experiments/results/table_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace mobalab::experiments {
namespace {

std::string cell(const Column& column, std::size_t row) {
    if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&column.values)) {
        return (*integers)[row] == column.missing ? "-" : std::to_string((*integers)[row]);
    }
    if (const auto* reals = std::get_if<std::vector<double>>(&column.values)) {
        return std::isnan((*reals)[row]) ? "-" : fmt::format("{:.6g}", (*reals)[row]);
    }
    return std::get<std::vector<std::string>>(column.values)[row];
}

/// Header and cells of one column, padded to one width.
std::vector<std::string> printed(const Column& column, const std::string& header) {
    std::vector<std::string> lines = {header};
    for (std::size_t row = 0; row < column.size(); ++row) {
        lines.push_back(cell(column, row));
    }
    const std::size_t width = std::max_element(lines.begin(), lines.end(), [](const auto& left, const auto& right) {
                                  return left.size() < right.size();
                              })->size();
    for (std::string& line : lines) {
        line.insert(0, width - line.size(), ' ');
    }
    return lines;
}

bool constant(const Column& column) {
    for (std::size_t row = 1; row < column.size(); ++row) {
        if (cell(column, row) != cell(column, 0)) {
            return false;
        }
    }
    return true;
}

bool all_zero(const Column& column) {
    return column.size() > 0 && constant(column) && cell(column, 0) == "0";
}

nlohmann::ordered_json json_cell(const Column& column, std::size_t row) {
    if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&column.values)) {
        const std::int64_t value = (*integers)[row];
        return value == column.missing ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(value);
    }
    if (const auto* reals = std::get_if<std::vector<double>>(&column.values)) {
        const double value = (*reals)[row];
        return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
    }
    return std::get<std::vector<std::string>>(column.values)[row];
}

}  // namespace

std::string human_table(const Table& table, const std::vector<ShownColumn>& parameters,
                        const std::vector<ShownColumn>& answers) {
    std::string above;
    std::vector<std::vector<std::string>> shown;
    for (const ShownColumn& parameter : parameters) {
        if (!table.has(parameter.name)) {
            continue;
        }
        const Column& column = table.column(parameter.name);
        if (parameter.zero_is_nothing && all_zero(column)) {
            continue;
        }
        if (table.rows() > 0 && constant(column)) {
            above += fmt::format("{}{} {}", above.empty() ? "" : ", ", parameter.header, cell(column, 0));
        } else {
            shown.push_back(printed(column, parameter.header));
        }
    }
    for (const ShownColumn& answer : answers) {
        shown.push_back(printed(table.column(answer.name), answer.header));
    }
    std::string text = above.empty() ? "" : above + "\n\n";
    for (std::size_t line = 0; line <= table.rows(); ++line) {
        std::vector<std::string> cells;
        cells.reserve(shown.size());
        for (const auto& column : shown) {
            cells.push_back(column[line]);
        }
        text += fmt::format("{}\n", fmt::join(cells, "  "));
    }
    return text;
}

std::string json_table(const Table& table) {
    auto array = nlohmann::ordered_json::array();
    for (std::size_t row = 0; row < table.rows(); ++row) {
        auto object = nlohmann::ordered_json::object();
        for (const Column& column : table.columns) {
            object[column.name] = json_cell(column, row);
        }
        array.push_back(std::move(object));
    }
    return array.dump(1) + "\n";
}

}  // namespace mobalab::experiments
