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
                    ///< mean error the mean of half their lengths, which bounds it however heads depend on each other
    double detectable_error;  ///< an error found with probability 0.9
    bool agrees() const;      ///< |measured - predicted| <= stated_error + chance; NaN does not
};

/// How a family-wise error `alpha` is shared: one half by the mean errors, one half by the settings (Bonferroni, so
/// whatever depends on what). Both are two-sided levels of one interval.
struct TraceLevels {
    double mean;
    double setting;
};
TraceLevels trace_levels(const MeasurePlan& plan, double alpha);

/// Compares the settings of every unit whose prediction is known, and per trace their mean errors; settings that keep
/// every candidate are left out. `measured` has intervals of level levels.mean; those of single settings are longer by
/// the ratio of t quantiles, with a degree of freedom less than clusters. A prediction within its stated error is
/// called wrong with a probability of about alpha at most.
std::vector<TraceComparison> compare_with_predictions(const MeasurePlan& plan,
                                                      const std::vector<std::vector<MeasuredSetting>>& measured,
                                                      const std::vector<std::vector<ToldPrediction>>& predictions,
                                                      const PredictionRequest& request, const TraceLevels& levels);

/// The table validate_comparisons.
Table trace_comparisons_table(const MeasurePlan& plan, const std::vector<TraceComparison>& comparisons);

}  // namespace mobalab::experiments
