#include "experiments/predict/longer_text.h"

#include <cmath>
#include <limits>

#include "experiments/predict/routed_scores.h"

namespace mobalab::experiments {
namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();

struct Told {
    double value = none;
    double margin = none;
};

/// law_share of the law, the rest of the short text.
Told combined(double of_law, double of_text, double law_share) {
    const double apart = std::abs(of_law - of_text);
    if (!(apart <= doubt_from)) return {};  // NaN too
    return {of_text + law_share * (of_law - of_text), longer_text_margin + 0.5 * apart};
}

}  // namespace

std::vector<ToldPrediction> predict_longer(std::span<const Prediction> law, const HeadScores& scores,
                                           std::span<const RouteSetting> settings) {
    const std::vector<RoutedShares> shares = routed_shares(scores, settings);
    std::vector<ToldPrediction> predictions;
    for (std::size_t i = 0; i < settings.size(); ++i) {
        Told hit;
        Told mass;
        if (!shares[i].keeps_all) {
            hit = combined(law[i].needle_hit, shares[i].needle_hit, 0.0);
            mass = combined(law[i].mass_recall, shares[i].mass_recall, 0.5);
        }
        predictions.push_back({{hit.value, mass.value}, {hit.margin, mass.margin}});
    }
    return predictions;
}

}  // namespace mobalab::experiments
