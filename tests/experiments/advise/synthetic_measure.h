#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "experiments/advise/evidence.h"
#include "experiments/results/column_builder.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// A row of a table `measure` whose right advice is known.
struct MeasureRow {
    std::string trace = "a.safetensors";
    std::int64_t layer = 0;
    std::int64_t head = 0;
    Setting setting;
    double recall = 0.5;
    double half_width = 0.01;
    double needle_hit = 0.5;
    double distance_r2 = 0.8;
    std::int64_t seq_len = 4096;
    std::string rope = "post";
    std::int64_t head_dim = 128;
};

inline Table measure_table_of(const std::vector<MeasureRow>& rows) {
    using Row = const MeasureRow&;
    Table table{.name = "measure", .dimension = "setting", .columns = {}};
    const auto add = [&](const char* name, auto get) { table.columns.push_back(make_column(rows, name, name, get)); };
    add("trace", [](Row row) { return row.trace; });
    add("model", [](Row) { return std::string("synthetic"); });
    add("text", [](Row) { return std::string("none"); });
    add("rope", [](Row row) { return row.rope; });
    add("dtype", [](Row) { return std::string("bf16"); });
    add("layer", [](Row row) { return row.layer; });
    add("head", [](Row row) { return row.head; });
    add("head_dim", [](Row row) { return row.head_dim; });
    add("seq_len", [](Row row) { return row.seq_len; });
    add("block_size", [](Row row) { return row.setting.block_size; });
    add("topk", [](Row row) { return row.setting.topk; });
    add("scorer", [](Row row) { return row.setting.scorer; });
    add("sub_blocks", [](Row row) { return row.setting.sub_blocks; });
    add("keep_first", [](Row row) { return std::int64_t{row.setting.keep_first ? 1 : 0}; });
    const auto low = [](double value, double half) { return std::max(0.0, value - half); };
    const auto high = [](double value, double half) { return std::min(1.0, value + half); };
    add("mass_recall", [](Row row) { return row.recall; });
    add("mass_recall_low", [=](Row row) { return low(row.recall, row.half_width); });
    add("mass_recall_high", [=](Row row) { return high(row.recall, row.half_width); });
    add("lost_mass", [](Row row) { return 0.5 * (1.0 - row.recall); });
    add("lost_mass_low", [=](Row row) { return low(0.5 * (1.0 - row.recall), row.half_width); });
    add("lost_mass_high", [=](Row row) { return high(0.5 * (1.0 - row.recall), row.half_width); });
    add("needle_hit", [](Row row) { return row.needle_hit; });
    add("distance_r2", [](Row row) { return row.distance_r2; });
    return table;
}

/// A setting measured on heads 0, 1, ... of layer 0 with these recalls.
inline void add_setting(std::vector<MeasureRow>& rows, const Setting& setting, const std::vector<double>& recalls,
                        double half_width = 0.01) {
    for (std::size_t head = 0; head < recalls.size(); ++head) {
        MeasureRow row;
        row.head = static_cast<std::int64_t>(head);
        row.setting = setting;
        row.recall = recalls[head];
        row.half_width = half_width;
        rows.push_back(row);
    }
}

inline Setting mean_setting(std::int64_t block_size, std::int64_t topk, bool keep_first = false) {
    return {.scorer = "mean", .block_size = block_size, .topk = topk, .sub_blocks = 1, .keep_first = keep_first};
}

}  // namespace mobalab::experiments
