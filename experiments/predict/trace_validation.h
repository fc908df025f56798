#pragma once

#include <string>
#include <vector>

#include "experiments/measure/head_summary.h"
#include "experiments/measure/measure_plan.h"
#include "experiments/predict/head_prediction.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// One quantity, measured against predicted.
struct TraceComparison {
    std::string kind;      ///< "needle_hit", "mass_recall"; "mean_needle_error", "mean_mass_error": of a whole trace
    std::size_t trace;     ///< of the plan
    std::int64_t setting;  ///< row of the table `measure`; -1: all of the trace
    double measured;       ///< of a mean error: itself
    double predicted;      ///< of a mean error: 0
    double stated_error;
    double chance;  ///< how far chance may move `measured`: to the end of its interval on the prediction's side; of a
                    ///< mean error the mean of half their lengths, which holds however heads depend on each other
    double detectable_error;  ///< an error found with probability 0.9
    bool agrees() const;      ///< |measured - predicted| <= stated_error + chance; NaN does not
};

/// How many comparisons a plan has at most; what its intervals' family-wise error is divided by.
std::size_t most_trace_comparisons(const MeasurePlan& plan);

/// Compares the settings of every unit whose prediction is known, and per trace their mean errors, settings that keep
/// every candidate left out. `measured` has intervals of confidence 1 - alpha / most_trace_comparisons(): all of
/// them hold at once with probability 1 - alpha (Bonferroni), so a prediction within its stated error is called wrong
/// with at most that probability, whatever depends on what.
std::vector<TraceComparison> compare_with_predictions(const MeasurePlan& plan,
                                                      const std::vector<std::vector<MeasuredSetting>>& measured,
                                                      const std::vector<std::vector<Prediction>>& predictions,
                                                      const PredictionRequest& request, double interval_alpha);

/// The table validate_comparisons.
Table trace_comparisons_table(const MeasurePlan& plan, const std::vector<TraceComparison>& comparisons);

}  // namespace mobalab::experiments
