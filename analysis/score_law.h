#pragma once

namespace mobalab::analysis {

/// A score, and its distances from the two ends of the interval being integrated, so that a law with bounded support
/// sees a distance to its end with full relative precision however small it is.
struct Score {
    double value;
    double low = 0.0;         ///< lower end of the interval; value = low + above_low
    double above_low = 0.0;   ///< >= 0
    double high = 0.0;        ///< upper end of the interval; value = high - below_high
    double below_high = 0.0;  ///< >= 0
};

/// Logs of P(score > s), P(score <= s) and the density at s.
struct LogLaw {
    double upper;
    double lower;
    double density;
};

/// The law of one block's score.
class ScoreLaw {
public:
    virtual ~ScoreLaw() = default;
    virtual LogLaw at(const Score& score) const = 0;
};

}  // namespace mobalab::analysis
