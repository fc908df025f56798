#include "experiments/predict/head_prediction.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "analysis/routing_point.h"
#include "experiments/base/interrupt.h"
#include "experiments/measure/head_measurement.h"
#include "experiments/predict/longer_text.h"
#include "experiments/predict/stated_error.h"
#include "experiments/results/column_builder.h"

namespace mobalab::experiments {
namespace {

std::vector<bool> measured_rows(const TraceInfo& info, std::int64_t wanted) {
    std::vector<bool> measured(static_cast<std::size_t>(info.queries), false);
    for (const RowStretch& stretch : row_stretches(info.q_start, info.queries, wanted, info.queries)) {
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

struct Row {
    ToldPrediction told;
    std::string how;
};

/// A prediction and the ends of its interval.
std::vector<Column> columns_of(const std::vector<Row>& rows, const std::string& name, const std::string& long_name,
                               double Prediction::*quantity) {
    const std::string margin = "held some nine in ten of what was measured on six texts";
    const auto end = [quantity](const Row& row, double sign) {
        const double value = row.told.prediction.*quantity + sign * row.told.margin.*quantity;
        return std::isnan(value) ? value : std::clamp(value, 0.0, 1.0);
    };
    return {make_column(
                rows, name, long_name, [quantity](const Row& row) { return row.told.prediction.*quantity; },
                "by the law in `prediction`; NaN: it cannot be told"),
            make_column(
                rows, fmt::format("{}_low", name), fmt::format("lower end of the interval of {}", name),
                [end](const Row& row) { return end(row, -1.0); }, margin),
            make_column(
                rows, fmt::format("{}_high", name), fmt::format("upper end of the interval of {}", name),
                [end](const Row& row) { return end(row, 1.0); }, margin)};
}

std::vector<std::int64_t> statistics_rows(const TracePlan& plan, const PredictionRequest& request) {
    switch (prediction_source(plan, request)) {
        case PredictionSource::other_rows:
            return prediction_rows(plan.trace.info().q_start, measured_rows(plan.trace.info(), request.rows));
        case PredictionSource::same_rows:
            return prediction_rows(plan.trace.info().q_start, no_rows(plan.trace.info()));
        case PredictionSource::other_trace:
        case PredictionSource::shorter_trace:
            break;
    }
    return prediction_rows(request.statistics->info().q_start, no_rows(request.statistics->info()));
}

}  // namespace

std::string to_string(PredictionSource source) {
    switch (source) {
        case PredictionSource::other_rows:
            return "other rows";
        case PredictionSource::same_rows:
            return "the measured rows";
        case PredictionSource::other_trace:
            return "another text";
        case PredictionSource::shorter_trace:
            break;
    }
    return "a shorter text";
}

PredictionSource prediction_source(const TracePlan& plan, const PredictionRequest& request) {
    const TraceInfo& info = plan.trace.info();
    if (request.statistics) {
        const TraceInfo& other = request.statistics->info();
        const bool shorter = 5 * (other.q_start + other.queries) < 4 * (info.q_start + info.queries);
        return shorter ? PredictionSource::shorter_trace : PredictionSource::other_trace;
    }
    return prediction_rows(info.q_start, measured_rows(info, request.rows)).empty() ? PredictionSource::same_rows
                                                                                    : PredictionSource::other_rows;
}

std::vector<ToldPrediction> predict_unit(const MeasurePlan& plan, const MeasureUnit& unit,
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
    const std::vector<Prediction> law = predict(request.law, scores, positions, of_trace.settings, request.threads);
    const PredictionSource source = prediction_source(of_trace, request);
    if (source == PredictionSource::shorter_trace) return predict_longer(law, scores, of_trace.settings);
    const StatedError stated = stated_error(request.law, source);
    std::vector<ToldPrediction> predictions;
    for (const Prediction& prediction : law) {
        predictions.push_back({prediction, {stated.margin_needle_hit, stated.margin_mass_recall}});
    }
    return predictions;
}

std::vector<std::vector<ToldPrediction>> predict_plan(const MeasurePlan& plan, const PredictionRequest& request,
                                                      const std::function<void(double, const std::string&)>& progress) {
    std::vector<std::vector<ToldPrediction>> predictions;
    for (const MeasureUnit& unit : plan.units) {
        stop_if_interrupted();
        progress(static_cast<double>(predictions.size()) / static_cast<double>(plan.units.size()),
                 fmt::format("prediction, layer {}, head {}", unit.layer, unit.head));
        predictions.push_back(predict_unit(plan, unit, request));
    }
    return predictions;
}

std::vector<Column> prediction_columns(const MeasurePlan& plan, const PredictionRequest& request,
                                       const std::vector<std::vector<ToldPrediction>>& predictions) {
    std::vector<Row> rows;
    for (std::size_t i = 0; i < plan.units.size(); ++i) {
        const std::string source = to_string(prediction_source(plan.traces[plan.units[i].trace], request));
        const std::string other =
            request.statistics ? std::filesystem::path(request.statistics->path()).filename().string() : "";
        const std::string how =
            fmt::format("{}, from {}{}{}", prediction_law_names()[static_cast<std::size_t>(request.law)], source,
                        other.empty() ? "" : " ", other);
        for (const ToldPrediction& prediction : predictions[i]) rows.push_back({prediction, how});
    }
    std::vector<Column> columns = columns_of(rows, "predicted_needle_hit",
                                             "predicted share of rows whose needle is routed", &Prediction::needle_hit);
    for (Column& column :
         columns_of(rows, "predicted_mass_recall", "predicted share of the candidates' softmax mass that is routed",
                    &Prediction::mass_recall)) {
        columns.push_back(std::move(column));
    }
    columns.push_back(make_column(rows, "prediction", "law and statistics of the prediction",
                                  [](const Row& row) { return row.how; }));
    return columns;
}

}  // namespace mobalab::experiments
