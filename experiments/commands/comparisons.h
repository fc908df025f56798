#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/agreement.h"
#include "analysis/routing_point.h"
#include "experiments/probe/kernel_assessment.h"
#include "experiments/probe/routing_rules.h"
#include "experiments/results/results_file.h"
#include "experiments/simulation/simulated_points.h"

namespace mobalab::experiments {

/// What is compared at the points of a plan.
struct ValidationEvidence {
    const std::vector<analysis::RoutingPoint>& points;
    const ProbePlan& plan;
    KernelAssessment kernel = {};
    std::vector<RuleCheck> tie_rule = {};        ///< of every job
    std::vector<RuleCheck> candidate_rule = {};  ///< of every job; selections of the probes themselves included
    std::vector<SimulatedMisses> own = {};       ///< of every point, by its own model
    std::vector<SimulatedMisses> gaussian = {};  ///< of every point; likewise the one below
    std::vector<SimulatedMisses> gaussian_fixed = {};
};

/// One comparison of two sides.
struct Comparison {
    std::int64_t point;  ///< row in the table of points; -1: all points together
    std::string kind;
    double expected_miss;
    double observed_miss;
    analysis::Agreement agreement;
    double standard_error;  ///< of the difference between the two sides where they agree; NaN: an exact check
    double adjusted_p = 1.0;
};

/// Every comparison the evidence allows (with theory only where it knows the point), with Holm's correction over all of
/// them (valid however they depend on each other). Kinds:
///   simulate-theory               simulation of the sphere against the exact probability at the point's candidates (of
///                                 model text theory knows an approximation only, which is no verdict)
///   gaussian-simulate-theory, gaussian-fixed-simulate-theory
///                                 the same for the two normal models; each once more for all points together (point
///                                 -1): their misses against the sum of their exact probabilities, points that differ
///                                 in topk and saw the same trials counted with their exact covariance
///   kernel-theory                 all probes against the sum of the exact probabilities at their candidates; once more
///                                 for all points together (point -1), which sees a small error that is everywhere
///   kernel-theory-by-candidates   the probes of one range of candidates
///   kernel-simulate               two samples of one question: the probes in the last block have exactly the
///                                 candidates the simulation has (of unit keys all other probes have fewer: no
///                                 simulation is theirs)
///   tie-rule, candidate-rule      exact checks of selections: one wrong row is p = 0
std::vector<Comparison> compare(const ValidationEvidence& evidence, int threads);

/// The difference between the two sides that a comparison with this standard error finds with probability 0.9, one of
/// `comparisons` at the family-wise error `family_alpha`.
double detectable_difference(double standard_error, std::size_t comparisons, double family_alpha);

/// Table "validate_comparisons", one row a comparison: point, kind, expected_miss, observed_miss, z, p_value,
/// adjusted_p, detectable_difference.
Table comparisons_table(const std::vector<Comparison>& comparisons, double family_alpha);

}  // namespace mobalab::experiments
