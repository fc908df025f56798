#pragma once

namespace mobalab::analysis {

/// A score's mean and standard deviation, both in the unit of the scores. sd >= 0; 0: the score is fixed.
struct NormalScore {
    double mean = 0.0;
    double sd = 0.0;
};

}  // namespace mobalab::analysis
