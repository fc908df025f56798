#pragma once

#include <cstdint>
#include <functional>

#include "sim/engine/engine.h"
#include "sim/tables/score_curves.h"

namespace mobalab::sim {

/// Conditional Monte Carlo: the signal block is missed where its score is below T, the K-th largest noise score, so
/// P(miss) = E[w], w = P(S < T | T). A trial draws T, by importance sampling, and averages the weight
/// (sim/tables/score_curves.h, MissWeights): a miss need never happen, and the relative variance of a weight is of
/// order 1 at any probability.
///
/// Where the signal score is fixed, or K is 0 or above n_c, w takes only the values 0 and 1 or is constant: there the
/// closed form of method exact is taken instead (check_method refuses the point).
class ConditionalSampler {
public:
    ConditionalSampler(const analysis::RoutingPoint& point, std::uint64_t seed);

    /// Sums over some trials: fixed chunks, added in order, so that the same trials give the same bits.
    struct Sums {
        std::uint64_t trials = 0;
        double weight = 0.0;
        double squared_weight = 0.0;

        double mean() const { return weight / static_cast<double>(trials); }
        /// Standard error of the mean over the mean; infinite for fewer than two trials, which show no spread.
        double relative_error() const;
    };
    Sums sums(std::uint64_t first_trial, std::uint64_t trials) const;

    /// Mean of one weight, and its variance over the squared mean, by quadrature over the uniform it is drawn from:
    /// what a run will see.
    struct Moments {
        double mean;
        double relative_variance;
    };
    Moments moments() const;

    /// The power of the importance sampling.
    double power() const { return weights_.power; }

    /// A bound that no weight exceeds: the largest sum of absolute coefficients over the pieces of the table.
    double largest_weight() const;

private:
    PhiloxKey key_;
    MissWeights weights_;
};

struct ConditionalResult {
    ConditionalSampler::Sums sums;
    double seconds = 0.0;
    StopReason reason = StopReason::trials;
};

/// Runs until a stop rule is met (max_misses counts nothing here and is refused with analysis::InputError). Rules are
/// looked at every 8192 trials. `go_on` is asked at the same moments; false interrupts. One thread: a run to 0.1 % is
/// some milliseconds long.
ConditionalResult simulate_conditional(const analysis::RoutingPoint& point, const Budget& budget,
                                       const std::function<bool()>& go_on = {});

/// Low and high end of an interval around a mean.
struct MeanInterval {
    double low;
    double mean;
    double high;
};

/// Interval of a mean of positive weights, mean * exp(-+ z relative_error): the central limit theorem on the scale of
/// the logarithm, where the skewed law of small means is nearer to normal. Needs trials_for_normal_theory().
MeanInterval log_normal_interval(const ConditionalSampler::Sums& sums, double confidence);

/// 1000 (z / 2)^6 trials, at least 1000: the error of the central limit theorem z standard errors out grows like z^3
/// over the root of the number of trials.
double trials_for_normal_theory(double confidence);

/// Interval of a mean of weights in [0, largest_weight], valid for any number of trials: all means p with n KL(mean ||
/// p) <= log(2 / alpha), KL the divergence of two Bernoulli laws after division by the largest weight. Source:
/// Hoeffding 1963, theorem 1. About twice as wide as the central limit theorem's where that holds.
MeanInterval bounded_weight_interval(const ConditionalSampler::Sums& sums, double largest_weight, double confidence);

}  // namespace mobalab::sim
