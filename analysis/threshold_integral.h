#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "analysis/score_law.h"
#include "analysis/top_k.h"

namespace mobalab::analysis {

/// Rough centre and spread of a score: a place to look, never a result.
struct RoughPlace {
    double mean;
    double sd;
};

/// A signal score against n_c independent noise scores for K slots where the signal's law may have jumps, or be a
/// mixture with several peaks: what solve_top_k() does not take.
struct ThresholdProblem {
    std::int64_t noise_blocks;  ///< n_c >= K
    std::int64_t slots;         ///< K >= 1
    std::shared_ptr<const ScoreLaw> noise;
    std::shared_ptr<const ScoreLaw> signal;  ///< tails alone, its density is not asked for
    /// From the lower to the upper end of the noise scores, ascending: every score between at which the signal's law
    /// jumps, or one of the two laws ends or is not smooth.
    std::vector<double> knots;
    RoughPlace threshold;             ///< the K-th largest noise score
    std::vector<RoughPlace> signals;  ///< where the signal may be; one for each kind of peak, most likely first
};

/// P(miss) = E[P(S <= X)] and P(hit) = E[P(S > X)] over the K-th largest noise score X, which has a density whatever
/// the signal's law (David and Nagaraja, Order Statistics, 2.1): a jump of the signal's law is an end of a piece, and
/// needs no term of its own. Pieces that cannot matter, by P(miss and X in the piece) <= P(X <= its end) P(S <= its
/// end) and the like, are left out. The smaller of the two is integrated, the larger is its complement.
LogHitMiss solve_by_threshold(const ThresholdProblem& problem);

}  // namespace mobalab::analysis
