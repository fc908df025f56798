#pragma once

#include <span>
#include <vector>

#include "experiments/predict/prediction.h"

namespace mobalab::experiments {

// From a text to one that is up to about twice as long. Texts differ by as much as lengths do, and where distance
// explains scores no law knows what lies beyond the longest distance it has seen. Of what was tried on texts of 4096
// and 8192 tokens (tests/perf/results/prediction_errors.md) the needle hits of the short text itself were nearest, and
// of mass recall its mean with the law's. Where the two differ by more than doubt_from nothing is said.

inline constexpr double doubt_from = 0.12;

/// Half the interval around a prediction: so much, and half of what law and short text differ by.
inline constexpr double longer_text_margin = 0.14;

/// `law`: what the law says for the long text, `scores` are of the short one. Settings that keep every block of the
/// short text cannot be told either. All NaN: it cannot be told.
std::vector<ToldPrediction> predict_longer(std::span<const Prediction> law, const HeadScores& scores,
                                           std::span<const RouteSetting> settings);

}  // namespace mobalab::experiments
