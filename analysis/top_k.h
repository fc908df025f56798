#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "analysis/score_law.h"

namespace mobalab::analysis {

/// The two equal integrals for the probability that K of n_c independent noise scores beat the signal score.
enum class Form {
    noise_first,   ///< over the K-th largest noise score; best when the signal is the more spread of the two
    signal_first,  ///< over the signal score, with a binomial tail inside; best when the signal is nearly fixed
};

/// A signal score against n_c independent noise scores for K slots, whatever the laws.
struct TopKProblem {
    std::int64_t noise_blocks;  ///< n_c >= K
    std::int64_t slots;         ///< K >= 1
    std::shared_ptr<const ScoreLaw> noise;
    std::shared_ptr<const ScoreLaw> signal;
    /// Supports (infinite for normal laws) and interior points where a density is not smooth, ascending.
    double noise_low, noise_high;
    double signal_low, signal_high;
    std::vector<double> knots;
    /// Rough centre and spread of both laws: where to look first, and which form to take.
    double noise_mean, noise_sd;
    double signal_mean, signal_sd;
};

/// log P(hit) and log P(miss) of the problem; the smaller is integrated, the larger is its complement.
struct LogHitMiss {
    double hit;
    double miss;
};

/// `form` empty: the form with the narrower integrand.
LogHitMiss solve_top_k(const TopKProblem& problem, std::optional<Form> form = std::nullopt);

}  // namespace mobalab::analysis
