#include "experiments/measure/measure_table.h"

#include <filesystem>
#include <type_traits>
#include <utility>
#include <variant>

#include "experiments/results/column_builder.h"

namespace mobalab::experiments {
namespace {

struct Row {
    const TracePlan* plan;
    MeasureUnit unit;
    const RouteSetting* setting;
    const MeasuredSetting* measured;
    const TraceInfo& info() const { return plan->trace.info(); }
};

std::vector<Row> rows_of(const MeasurePlan& plan, const std::vector<std::vector<MeasuredSetting>>& measured) {
    std::vector<Row> rows;
    for (std::size_t i = 0; i < plan.units.size(); ++i) {
        const TracePlan& of_trace = plan.traces[plan.units[i].trace];
        for (std::size_t s = 0; s < of_trace.settings.size(); ++s) {
            rows.push_back({&of_trace, plan.units[i], &of_trace.settings[s], &measured[i][s]});
        }
    }
    return rows;
}

std::vector<Column> identity_columns(const std::vector<Row>& rows, const std::string& device) {
    return {
        make_column(rows, "trace", "file name of the trace",
                    [](const Row& row) { return std::filesystem::path(row.plan->trace.path()).filename().string(); }),
        make_column(rows, "model", "model whose queries and keys these are",
                    [](const Row& row) { return row.info().model; }),
        make_column(rows, "text", "what the model read", [](const Row& row) { return row.info().text; }),
        make_column(rows, "rope", "queries and keys after rotation (post), before it (pre), or of a model without",
                    [](const Row& row) { return row.info().rope; }),
        make_column(rows, "layer", "layer of the model", [](const Row& row) { return row.unit.layer; }),
        make_column(rows, "head", "query head", [](const Row& row) { return row.unit.head; }),
        make_column(rows, "head_dim", "channels of a query and a key",
                    [](const Row& row) { return row.info().head_dim; }),
        make_column(rows, "seq_len", "keys of the trace", [](const Row& row) { return row.info().keys; }),
        make_column(rows, "block_size", "keys of a block",
                    [](const Row& row) { return row.setting->score.block_size; }),
        make_column(rows, "topk", "blocks a query attends to, its own included",
                    [](const Row& row) { return row.setting->topk; }),
        make_column(rows, "scorer", "how a query scores a block",
                    [](const Row& row) { return scorer_text(row.setting->score); }),
        make_column(rows, "sub_blocks", "parts of a block that are scored one by one",
                    [](const Row& row) { return row.setting->score.sub_blocks; }),
        make_column(rows, "keep_first", "1: block 0 is always kept, and is one of the topk",
                    [](const Row& row) { return std::int64_t{row.setting->keep_first ? 1 : 0}; }),
        make_column(rows, "dtype", "type of the tensors that were routed",
                    [](const Row& row) { return std::string(kernels::to_string(row.plan->dtype)); }),
        make_column(rows, "centroids", "summaries of keys: rounded to the dtype, or kept in fp32",
                    [](const Row& row) {
                        return std::string(row.setting->score.centroids == kernels::Centroids::fp32 ? "fp32" : "dtype");
                    }),
        make_column(rows, "device", "where it was measured", [&](const Row&) { return device; }),
    };
}

/// A bin of a setting.
struct BinRow {
    std::int64_t setting;  ///< row of the table measure
    DistanceBin bin;
    DistanceCounts counts;
    DistanceCounts all;  ///< over the bins of the setting
};

/// Bins are all that a row of the trace has a block in, so that every head has the same.
void add_bins(std::vector<BinRow>& rows, std::int64_t setting, const Row& row) {
    DistanceHistogram distances = row.measured->distances;
    const std::int64_t block_size = row.setting->score.block_size;
    const std::int64_t last_block = (row.info().q_start + row.info().queries - 1) / block_size;
    distances.resize(bin_of_blocks_back(last_block) + 1);
    DistanceCounts all;
    for (const DistanceCounts& counts : distances) {
        all.routed += counts.routed;
        all.needles += counts.needles;
    }
    for (std::size_t bin = 0; all.routed > 0 && bin < distances.size(); ++bin) {
        rows.push_back({setting, distance_bin(block_size, bin), distances[bin], all});
    }
}

/// The column of the table measure in the rows of its settings.
Column of_settings(const std::vector<BinRow>& rows, const Column& of_measure) {
    Column column = of_measure;
    std::visit(
        [&](const auto& values) {
            std::decay_t<decltype(values)> gathered;
            for (const BinRow& row : rows) {
                gathered.push_back(values[static_cast<std::size_t>(row.setting)]);
            }
            column.values = std::move(gathered);
        },
        of_measure.values);
    return column;
}

double share(std::int64_t part, std::int64_t whole) {
    return static_cast<double>(part) / static_cast<double>(whole);  // NaN of none
}

std::vector<Column> bin_columns(const std::vector<BinRow>& rows) {
    return {
        make_column(
            rows, "distance_low", "least distance in the bin, in tokens", [](const BinRow& row) { return row.bin.low; },
            "distance: from a block's last key to the row's position; a bin is whole blocks: own block - block is 1, "
            "2, 3 ... 4, 5 ... 8, ..."),
        make_column(
            rows, "distance_high", "end of the bin, in tokens", [](const BinRow& row) { return row.bin.high; },
            "the least distance beyond the bin"),
        make_column(
            rows, "routed_blocks", "routed blocks in the bin", [](const BinRow& row) { return row.counts.routed; },
            "over the rows with a candidate block; settings without routed blocks are not in the table: topk 1, and "
            "scorer random, whose hits and masses are expectations"),
        make_column(
            rows, "routed_share", "share of the routed blocks that lie in the bin",
            [](const BinRow& row) { return share(row.counts.routed, row.all.routed); },
            "routed_blocks over their sum over the bins of the setting on the head"),
        make_column(
            rows, "needle_blocks", "rows whose needle's block lies in the bin",
            [](const BinRow& row) { return row.counts.needles; },
            "needle: the key of the largest q.k among keys 1 ... (b - 2) B - 1, b the own block, B the block size, "
            "routed or not; so never in the first two bins"),
        make_column(
            rows, "needle_share", "share of the needles whose block lies in the bin",
            [](const BinRow& row) { return share(row.counts.needles, row.all.needles); },
            "needle_blocks over their sum over the bins of the setting on the head"),
    };
}

}  // namespace

Table measure_table(const MeasurePlan& plan, const std::vector<std::vector<MeasuredSetting>>& measured,
                    const MeasureSettings& settings, const std::string& device) {
    const std::vector<Row> rows = rows_of(plan, measured);
    Table table{.name = "measure", .dimension = "setting", .columns = identity_columns(rows, device)};
    for (std::size_t i = 0; i < count_texts.size(); ++i) {
        table.columns.push_back(make_column(
            rows, std::string(count_texts[i].name), std::string(count_texts[i].long_name),
            [i](const Row& row) { return row.measured->counts[i]; }, std::string(count_texts[i].definition)));
    }
    for (std::size_t i = 0; i < quantity_texts.size(); ++i) {
        table.columns.push_back(make_column(
            rows, std::string(quantity_texts[i].name), std::string(quantity_texts[i].long_name),
            [i](const Row& row) { return row.measured->values[i]; }, std::string(quantity_texts[i].definition)));
    }
    table.attributes = {{"confidence", settings.confidence}};
    if (plan.left_out > 0) {
        table.attributes["left_out"] = plan.left_out;
        table.attributes["first_left_out"] = plan.first_left_out;
    }
    return table;
}

Table measure_distance_table(const Table& measure, const MeasurePlan& plan,
                             const std::vector<std::vector<MeasuredSetting>>& measured) {
    const std::vector<Row> settings = rows_of(plan, measured);
    std::vector<BinRow> rows;
    for (std::size_t i = 0; i < settings.size(); ++i) {
        add_bins(rows, static_cast<std::int64_t>(i), settings[i]);
    }
    Table table{.name = "measure_distance", .dimension = "bin", .columns = {}};
    table.columns.push_back(make_column(rows, "setting", "row of the table measure that this is of",
                                        [](const BinRow& row) { return row.setting; }));
    for (const char* name : {"trace", "layer", "head", "block_size", "topk", "scorer", "sub_blocks", "keep_first"}) {
        table.columns.push_back(of_settings(rows, measure.column(name)));
    }
    for (Column& column : bin_columns(rows)) {
        table.columns.push_back(std::move(column));
    }
    return table;
}

}  // namespace mobalab::experiments
