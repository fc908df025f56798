#include "experiments/predict/stated_error.h"

#include "experiments/predict/longer_text.h"

namespace mobalab::experiments {

StatedError stated_error(PredictionLaw law, PredictionSource source) {
    // Of the worst text of the table that the header names, rounded up; margins are of all its texts.
    if (source == PredictionSource::shorter_trace) {
        return {0.06, 0.07, 0.45, 0.35, longer_text_margin, longer_text_margin};
    }
    if (source == PredictionSource::other_trace) return {0.07, 0.12, 0.35, 0.65, 0.15, 0.25};
    if (law == PredictionLaw::standardised) return {0.08, 0.08, 0.40, 0.30, 0.15, 0.15};
    return {0.06, 0.05, 0.35, 0.25, 0.12, 0.09};
}

}  // namespace mobalab::experiments
