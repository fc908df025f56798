#include "experiments/measure/measure_table.h"

#include <filesystem>

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

}  // namespace mobalab::experiments
