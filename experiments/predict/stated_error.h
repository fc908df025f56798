#pragma once

#include "experiments/predict/head_prediction.h"

namespace mobalab::experiments {

/// How far predictions may be off, as seen on texts and layers that no law was fitted or chosen on
/// (tests/perf/results/prediction_errors.md): the mean over heads and settings of a trace of |measured - predicted|,
/// and of single settings the largest.
struct StatedError {
    double mean_needle_hit;
    double mean_mass_recall;
    double single_needle_hit;
    double single_mass_recall;
    double margin_needle_hit;  ///< some nine in ten errors of single settings are within
    double margin_mass_recall;
};

StatedError stated_error(PredictionLaw law, PredictionSource source);

}  // namespace mobalab::experiments
