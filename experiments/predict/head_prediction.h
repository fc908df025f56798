#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "experiments/measure/measure_plan.h"
#include "experiments/predict/prediction.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// What a plan is predicted from.
struct PredictionRequest {
    PredictionLaw law = PredictionLaw::one_pass;
    std::optional<Trace> statistics = {};  ///< another text of the same model; none: rows of the measured trace itself
    std::int64_t rows = 0;                 ///< MeasureSettings::rows: which rows are measured
    int threads = 0;
};

/// Where the statistics of a trace's predictions come from.
enum class PredictionSource {
    other_rows,     ///< rows of the trace that are not measured
    same_rows,      ///< rows that are measured: too few others are left
    other_trace,    ///< PredictionRequest::statistics
    shorter_trace,  ///< the same, and it ends before four fifths of the measured trace (longer_text.h)
};

/// "other rows", "the measured rows", "another text", "a shorter text".
std::string to_string(PredictionSource source);

PredictionSource prediction_source(const TracePlan& plan, const PredictionRequest& request);

/// The settings of the unit's trace, for the rows that are measured. Throws InputError where the other trace has not
/// the unit's layer or head, or another head_dim; FileError, KernelError.
std::vector<ToldPrediction> predict_unit(const MeasurePlan& plan, const MeasureUnit& unit,
                                         const PredictionRequest& request);

/// The same of every unit of the plan.
std::vector<std::vector<ToldPrediction>> predict_plan(const MeasurePlan& plan, const PredictionRequest& request,
                                                      const std::function<void(double, const std::string&)>& progress);

/// The columns predicted_needle_hit, predicted_mass_recall, each with its interval, and prediction (law and source) of
/// the table `measure`.
std::vector<Column> prediction_columns(const MeasurePlan& plan, const PredictionRequest& request,
                                       const std::vector<std::vector<ToldPrediction>>& predictions);

}  // namespace mobalab::experiments
