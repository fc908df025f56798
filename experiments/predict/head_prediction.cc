#include "experiments/predict/head_prediction.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "analysis/routing_point.h"
#include "experiments/base/interrupt.h"
#include "experiments/measure/head_measurement.h"
#include "experiments/results/column_builder.h"

namespace mobalab::experiments {
namespace {

std::vector<bool> measured_rows(const TraceInfo& info, std::int64_t wanted) {
    std::vector<bool> measured(static_cast<std::size_t>(info.queries), false);
    for (const RowStretch& stretch : row_stretches(info.queries, wanted, info.queries)) {
        std::fill_n(measured.begin() + stretch.first, stretch.count, true);
    }
    return measured;
}

std::vector<bool> no_rows(const TraceInfo& info) {
    return std::vector<bool>(static_cast<std::size_t>(info.queries), false);
}

void check_other(const Trace& other, const TracePlan& plan, const MeasureUnit& unit) {
    const TraceInfo& mine = plan.trace.info();
    const TraceInfo& info = other.info();
    if (info.query_heads != mine.query_heads || info.key_heads != mine.key_heads || info.head_dim != mine.head_dim) {
        throw analysis::InputError(
            fmt::format("statistics = {}: has {} query heads, {} key heads of {} channels, {} has {}, {}, {}; nearest "
                        "valid choice: "
                        "a trace of the same model",
                        other.path(), info.query_heads, info.key_heads, info.head_dim, plan.trace.path(),
                        mine.query_heads, mine.key_heads, mine.head_dim));
    }
    if (std::find(other.layers().begin(), other.layers().end(), unit.layer) == other.layers().end()) {
        throw analysis::InputError(fmt::format("statistics = {}: has no layer {}; it has {}", other.path(), unit.layer,
                                               fmt::join(other.layers(), ", ")));
    }
}

std::vector<std::int64_t> statistics_rows(const TracePlan& plan, const PredictionRequest& request) {
    switch (prediction_source(plan, request)) {
        case PredictionSource::other_rows:
            return prediction_rows(plan.trace.info().q_start, measured_rows(plan.trace.info(), request.rows));
        case PredictionSource::same_rows:
            return prediction_rows(plan.trace.info().q_start, no_rows(plan.trace.info()));
        case PredictionSource::other_trace:
            break;
    }
    return prediction_rows(request.statistics->info().q_start, no_rows(request.statistics->info()));
}

}  // namespace

std::string to_string(PredictionSource source) {
    return source == PredictionSource::other_rows
               ? "other rows"
               : (source == PredictionSource::same_rows ? "the measured rows" : "another trace");
}

PredictionSource prediction_source(const TracePlan& plan, const PredictionRequest& request) {
    if (request.statistics) return PredictionSource::other_trace;
    const TraceInfo& info = plan.trace.info();
    return prediction_rows(info.q_start, measured_rows(info, request.rows)).empty() ? PredictionSource::same_rows
                                                                                    : PredictionSource::other_rows;
}

std::vector<Prediction> predict_unit(const MeasurePlan& plan, const MeasureUnit& unit,
                                     const PredictionRequest& request) {
    const TracePlan& of_trace = plan.traces[unit.trace];
    const TraceInfo& info = of_trace.trace.info();
    if (request.statistics) check_other(*request.statistics, of_trace, unit);
    const std::vector<std::int64_t> rows = statistics_rows(of_trace, request);
    if (rows.empty()) {
        throw analysis::InputError(
            fmt::format("predict: {} has fewer than {} rows to predict from; nearest valid "
                        "choice: a trace with more queries",
                        (request.statistics ? *request.statistics : of_trace.trace).path(), fewest_prediction_rows));
    }
    const std::vector<bool> measured = measured_rows(info, request.rows);
    std::vector<std::int64_t> positions;
    for (std::size_t row = 0; row < measured.size(); ++row) {
        if (measured[row]) positions.push_back(info.q_start + static_cast<std::int64_t>(row));
    }
    const HeadScores scores =
        head_scores(request.statistics ? *request.statistics : of_trace.trace, unit.layer, unit.head, rows);
    return predict(request.law, scores, positions, of_trace.settings, request.threads);
}

std::vector<std::vector<Prediction>> predict_plan(const MeasurePlan& plan, const PredictionRequest& request,
                                                  const std::function<void(double, const std::string&)>& progress) {
    std::vector<std::vector<Prediction>> predictions;
    for (const MeasureUnit& unit : plan.units) {
        stop_if_interrupted();
        progress(static_cast<double>(predictions.size()) / static_cast<double>(plan.units.size()),
                 fmt::format("prediction, layer {}, head {}", unit.layer, unit.head));
        predictions.push_back(predict_unit(plan, unit, request));
    }
    return predictions;
}

std::vector<Column> prediction_columns(const MeasurePlan& plan, const PredictionRequest& request,
                                       const std::vector<std::vector<Prediction>>& predictions) {
    struct Row {
        Prediction prediction;
        std::string how;
    };
    std::vector<Row> rows;
    for (std::size_t i = 0; i < plan.units.size(); ++i) {
        const std::string how =
            fmt::format("{}, from {}", prediction_law_names()[static_cast<std::size_t>(request.law)],
                        request.statistics ? request.statistics->path()
                                           : to_string(prediction_source(plan.traces[plan.units[i].trace], request)));
        for (const Prediction& prediction : predictions[i]) rows.push_back({prediction, how});
    }
    return {make_column(
                rows, "predicted_needle_hit", "predicted share of rows whose needle is routed",
                [](const Row& row) { return row.prediction.needle_hit; },
                "by the law in `prediction`; NaN: it says nothing"),
            make_column(
                rows, "predicted_mass_recall", "predicted share of the candidates' softmax mass that is routed",
                [](const Row& row) { return row.prediction.mass_recall; },
                "by the law in `prediction`; NaN: it says nothing"),
            make_column(rows, "prediction", "law and statistics of the prediction",
                        [](const Row& row) { return row.how; })};
}

}  // namespace mobalab::experiments
