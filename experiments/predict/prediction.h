#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/measure/head_outcomes.h"
#include "experiments/predict/head_scores.h"

namespace mobalab::experiments {

/// How statistics of a head become what routing finds.
enum class PredictionLaw {
    one_pass,      ///< token statistics (analysis::OnePassLaw)
    standardised,  ///< a and r of block scores standardised within each query (analysis::hit_of_standardised())
    empirical,     ///< the laws of those scores as they were seen (analysis::hit_of_samples())
};

/// "one-pass", "standardised", "empirical".
std::vector<std::string> prediction_law_names();
PredictionLaw parse_prediction_law(std::string_view name);  ///< throws InputError

/// NaN: the law says nothing of the setting (another scorer than `mean`; keep_first, but for one-pass; blocks beyond
/// analysis::most_block_size; no row has a candidate or a needle).
struct Prediction {
    double needle_hit;
    double mass_recall;
};

/// A prediction with half its interval, which held some nine in ten of what was measured on texts that nothing was
/// chosen on.
struct ToldPrediction {
    Prediction prediction;
    Prediction margin;
};

/// What each setting finds for queries at `positions`, by statistics of `scores` alone.
std::vector<Prediction> predict(PredictionLaw law, const HeadScores& scores, std::span<const std::int64_t> positions,
                                std::span<const RouteSetting> settings, int threads);

}  // namespace mobalab::experiments
