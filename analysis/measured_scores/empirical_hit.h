#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mobalab::analysis {

/// A score that was seen, and how much it counts.
struct WeightedScore {
    double score = 0.0;   ///< no NaN; infinite scores have their place
    double weight = 1.0;  ///< >= 0 and finite
};

/// Who wins where a rival's score equals the target's. The router lets the higher block win, so this is a question of
/// where the target stands: behind all rivals, anywhere among them, or before them.
enum class Ties {
    target_wins,  ///< target in the highest block: a rival must score strictly more
    halves,       ///< "mid": each rival that ties wins with probability 1/2, independently
    rivals_win,   ///< target in the lowest block
};

/// The law of a rival's score, taken from a sample: P(X > s) is the share of the sample's weight above s.
class EmpiricalScores {
public:
    /// Throws InputError: NaN scores, weights that are negative or not finite, no weight at all.
    explicit EmpiricalScores(std::vector<WeightedScore> sample);

    /// log P(a rival beats a target of score s) and log of its complement.
    struct Beats {
        double log_p;
        double log_1mp;
    };
    Beats beats(double score, Ties ties) const;

private:
    std::vector<double> scores_;        // ascending, different
    std::vector<double> weight_below_;  // [i]: of scores before i; one more entry: of all
};

/// P(fewer than `slots` of candidates - 1 independent rivals of law `rivals` beat the target), averaged over the
/// targets by weight: sum_i w_i P(Bin(candidates - 1, P(X beats s_i)) <= slots - 1) / sum_i w_i. Exact for these laws;
/// with targets weighted by the attention mass of their blocks (each row's weights adding up to one) it is the mass
/// recall. Fails where rivals of a query depend on one another or on distance.
///
/// Throws InputError: no target with weight, NaN, negative weights, candidates outside 1 ... 1e6, slots < 0.
double hit_of_samples(std::span<const WeightedScore> targets, const EmpiricalScores& rivals, std::int64_t candidates,
                      std::int64_t slots, Ties ties = Ties::halves);

}  // namespace mobalab::analysis
