#pragma once

#include <cstdint>

namespace mobalab::analysis {

/// Score S of the target's block against scores X of other candidates, in units of the spread of X. On real keys both
/// are measured *within each query* (subtract the mean of the row's other candidates, divide by their standard
/// deviation, then take moments over rows): a shift or a scale that all blocks of a query share decides nothing, and
/// moments pooled over queries count it as noise.
struct StandardisedSignal {
    double a = 0.0;  ///< (E S - E X) / sd X
    double r = 0.0;  ///< sd S / sd X, at least 0; 0: S does not fluctuate
};

/// P(fewer than `slots` of candidates - 1 rivals score above S), S ~ N(a, r^2), rivals independent N(0, 1):
/// E_z[P(Bin(candidates - 1, Q(a + r z)) <= slots - 1)], the integrals of solve_top_k(). 0 where slots is 0, 1 where
/// there are at most `slots` candidates. Relative error of the smaller of hit and miss below 1e-9. What it cannot see:
/// scores that depend on distance (rivals of different means), rivals that resemble each other, laws that are not
/// normal. Mass recall is the same with the target's block drawn in proportion to its mass.
///
/// Throws InputError: a or r not finite, r < 0, candidates outside 1 ... 1e6, slots < 0.
double hit_of_standardised(const StandardisedSignal& signal, std::int64_t candidates, std::int64_t slots);

}  // namespace mobalab::analysis
