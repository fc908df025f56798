#include "analysis/hit_probability.h"

#include <cmath>

#include "analysis/binomial_tail.h"
#include "analysis/hit_problem.h"
#include "analysis/log_space.h"

namespace mobalab::analysis {

double HitProbability::hit() const {
    return std::exp(log_hit);
}

double HitProbability::miss() const {
    return std::exp(log_miss);
}

HitProbability exact_hit_probability(const RoutingPoint& point) {
    validate(point);
    if (point.routed() == 0) return {log_zero, 0.0};
    if (point.noise_blocks() < point.routed()) return {0.0, log_zero};
    if (signal_is_fixed(point)) {
        const LogLaw noise = noise_at_fixed_signal(point);
        const LogTails rivals = BinomialTail(point.noise_blocks(), point.routed()).at(noise.upper, noise.lower);
        return {rivals.lower, rivals.upper};
    }
    const LogHitMiss result = solve_top_k(top_k_problem(point));
    return {result.hit, result.miss};
}

}  // namespace mobalab::analysis
