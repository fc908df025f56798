#include "experiments/predict/stated_error.h"

namespace mobalab::experiments {

StatedError stated_error(PredictionLaw law, PredictionSource source) {
    // Rounded up from the worst text of the table that the header names.
    if (source == PredictionSource::other_trace) return {0.07, 0.12, 0.35, 0.65};
    return law == PredictionLaw::standardised ? StatedError{0.08, 0.08, 0.30, 0.30}
                                              : StatedError{0.06, 0.05, 0.25, 0.25};
}

}  // namespace mobalab::experiments
