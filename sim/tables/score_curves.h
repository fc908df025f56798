#pragma once

#include "analysis/routing_point.h"
#include "sim/tables/octave_table.h"
#include "sim/tables/score_table.h"

namespace mobalab::sim {

/// The exact laws of a point's scores, as tables the samplers can draw from (laws: analysis/hit_problem.h).

/// P(noise score > S) 2^64 as a function of the uniform that gives the signal score S = F_S^-1(U). Relative error below
/// 1e-8 (d = 2, whose densities are infinite at points: 1e-5) where the probability is above 1e-18 and U between 1e-15
/// and 1 - 1e-15 (tests/sim/tables/score_curves_test.cc).
OctaveTable noise_above_signal_table(const analysis::RoutingPoint& point);

/// Weights whose mean over a uniform Y is P(miss). T, the K-th largest of n_c noise scores, K = routed(), has an upper
/// tail that is Beta(K, n_c - K + 1) (David and Nagaraja, Order Statistics, 2.1): a uniform V gives T, high where V is
/// low, and w(V) = P(S < T). Importance sampling draws V = Y^a instead, a >= 1, and weighs w(V) dV/dY = w(V) a Y^(a-1);
/// a is the power of least variance. Needs K in [1, n_c] and a signal score that is random. Same error.
struct MissWeights {
    OctaveTable table;
    double power;
};
MissWeights miss_weights(const analysis::RoutingPoint& point);

/// Noise score and the random part of the signal score (0 where the whole block is fixed) of the sphere, both in units
/// of the noise score's standard deviation sqrt(B / d).
struct BlockScoreTables {
    ScoreTable noise;
    ScoreTable signal;
};
BlockScoreTables block_score_tables(const analysis::RoutingPoint& point);

}  // namespace mobalab::sim
