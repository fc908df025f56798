#include "experiments/predict/stated_error.h"

namespace mobalab::experiments {

StatedError stated_error(PredictionLaw law, PredictionSource source) {
    // Rounded up from the table that the header names.
    if (source == PredictionSource::other_trace) return {0.10, 0.10, 0.35, 0.45};
    return law == PredictionLaw::standardised ? StatedError{0.08, 0.08, 0.30, 0.30}
                                              : StatedError{0.06, 0.05, 0.20, 0.20};
}

}  // namespace mobalab::experiments
