#pragma once

#include <string>
#include <string_view>

#include "analysis/routing_point.h"

namespace mobalab::sim {

/// How a miss probability is estimated: the rungs of a ladder. Every rung is exact for its model and needs fewer random
/// numbers than the one before.
enum class Method {
    vector,       ///< d normals a key: real vectors (sphere, vector; text, several times as many)
    affinity,     ///< an affinity a key (sphere, vector)
    block,        ///< a score a block: normal, or the exact law of the block's mean by its inverse
    threshold,    ///< 16 bits a block, compared with P(noise score > signal score)
    conditional,  ///< the K-th largest noise score, weighted with P(signal score below it); for rare misses
    exact,        ///< no sampling: the integral of analysis/
};

/// "vector", "affinity", "block", "threshold", "conditional", "exact".
std::string_view to_string(Method method);
/// Throws analysis::InputError naming the accepted names.
Method parse_method(std::string_view name);

/// The rung that draws what the model says: block for gaussian and gaussian-fixed, affinity for sphere, vector for
/// vector and text and where keys are convolved with SiLU, which acts on coordinates, or scored by them (quest, max). A
/// scorer that looks at no key has block.
Method native_method(const analysis::RoutingPoint& point);

/// Whether the method counts misses in trials (all but conditional and exact).
bool counts_trials(Method method);

/// Why the method cannot answer the point; empty when it can. The rules are check_method()'s.
std::string method_trouble(const analysis::RoutingPoint& point, Method method);

/// Throws analysis::InputError, naming methods that can, when the method cannot answer the point:
///
///   vector, affinity      normal models; affinity: model text, a key convolution with SiLU, scorers of coordinates
///   block                 correlated unit keys, key convolution (its scores would need their law), scorers but the
///   mean threshold             the same, and several needles conditional           the same, and where no probability
///   is left to draw (sim/engine/conditional.h) exact                 where the probability is not known
///   (analysis/hit_problem.h)
///
/// Scorer random, whatever the point: all but block and exact.
void check_method(const analysis::RoutingPoint& point, Method method);

}  // namespace mobalab::sim
