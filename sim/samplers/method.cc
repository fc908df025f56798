#include "sim/samplers/method.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <stdexcept>
#include <utility>
#include <vector>

#include "analysis/hit_problem.h"

namespace mobalab::sim {
namespace {

using analysis::InputError;
using analysis::RoutingPoint;

constexpr std::array<std::pair<Method, std::string_view>, 6> kNames = {{{Method::vector, "vector"},
                                                                        {Method::affinity, "affinity"},
                                                                        {Method::block, "block"},
                                                                        {Method::threshold, "threshold"},
                                                                        {Method::conditional, "conditional"},
                                                                        {Method::exact, "exact"}}};

/// Whether the K-th largest noise score and the signal score are both random.
bool has_random_threshold(const RoutingPoint& point) {
    return point.routed() >= 1 && point.routed() <= point.noise_blocks() && !analysis::signal_is_fixed(point);
}

bool has_silu(const RoutingPoint& point) {
    return point.key_conv > 0 && point.key_conv_activation == analysis::Activation::silu;
}

const analysis::ScorerDefinition& scorer_of(const RoutingPoint& point) {
    return analysis::definition_of(point.scorer.kind);
}

/// What method_trouble() says of other scorers than the mean of the keys, whose points are plain or whose parts are
/// none.
std::string scorer_trouble(const RoutingPoint& point, Method method) {
    const std::string name = analysis::to_string(point.scorer);
    const analysis::ScorerDefinition& scorer = scorer_of(point);
    if (method == Method::exact) {
        return analysis::has_exact_probability(point)
                   ? ""
                   : fmt::format("the exact probability is not known for scorer {}", name);
    }
    if (scorer.parts == 0) {
        return method == Method::block ? ""
                                       : fmt::format("scorer {} looks at nothing, so nothing but ranks is drawn", name);
    }
    if (method == Method::vector && !scorer.knows_affinities_only() && point.scorer.sub_blocks > 1) {
        return fmt::format("scorer {} has sub-blocks whose coordinates count, which no sampler knows", name);
    }
    if (method == Method::affinity && !scorer.knows_affinities_only()) {
        return fmt::format("scorer {} looks at the coordinates of keys, which affinities do not know", name);
    }
    if (method != Method::vector && method != Method::affinity) {
        return fmt::format("this method draws scores by the law of the mean of the keys, not of scorer {}", name);
    }
    return "";
}

}  // namespace

std::string_view to_string(Method method) {
    for (const auto& [known, name] : kNames) {
        if (known == method) {
            return name;
        }
    }
    throw std::logic_error("to_string: not a Method");
}

Method parse_method(std::string_view name) {
    for (const auto& [method, known] : kNames) {
        if (known == name) {
            return method;
        }
    }
    throw InputError(
        fmt::format("method = '{}': must be one of vector, affinity, block, threshold, conditional, exact", name));
}

Method native_method(const RoutingPoint& point) {
    const analysis::ScorerDefinition& scorer = scorer_of(point);
    const analysis::Rows rows = analysis::definition_of(point.model).rows;
    if (scorer.parts == 0 || rows == analysis::Rows::block_scores) {
        return Method::block;
    }
    const bool by_coordinates = rows == analysis::Rows::vectors || has_silu(point) || !scorer.knows_affinities_only();
    return by_coordinates ? Method::vector : Method::affinity;
}

bool counts_trials(Method method) {
    return method != Method::conditional && method != Method::exact;
}

std::string method_trouble(const RoutingPoint& point, Method method) {
    if (scorer_of(point).parts == 0) {
        return scorer_trouble(point, method);
    }
    const bool by_keys = method == Method::vector || method == Method::affinity;
    const analysis::KeyModelDefinition& model = analysis::definition_of(point.model);
    if (model.text_keys && method == Method::vector) {
        return "";
    }
    if (by_keys && !model.sphere_affinities) {
        return fmt::format("model {} has {}", model.name,
                           model.has_keys() ? "keys that this method does not draw" : "block scores only, no keys");
    }
    if (point.scorer != analysis::Scorer{}) {
        return scorer_trouble(point, method);
    }
    if (method == Method::affinity && has_silu(point)) {
        return fmt::format("key_conv = {} with SiLU acts on the coordinates of keys, which affinities do not know",
                           point.key_conv);
    }
    if (by_keys) {
        return "";
    }
    if (point.key_conv > 0) {
        return fmt::format(
            "key_conv = {} lets neighbouring blocks share keys, and this method draws them independently",
            point.key_conv);
    }
    const bool known =
        method == Method::exact ? analysis::has_exact_probability(point) : analysis::has_block_score_laws(point);
    if (!known) {
        return fmt::format("it has no law of a block's score at key_correlation = {} for model {} and scorer {}",
                           point.key_correlation, model.name, analysis::to_string(point.scorer));
    }
    if (point.needles > 1 && (method == Method::threshold || method == Method::conditional)) {
        return fmt::format("needles = {}: it has one signal score", point.needles);
    }
    if (method == Method::conditional && !has_random_threshold(point)) {
        return fmt::format(
            "needs 1 <= topk - 1 <= candidates - 1 and a signal score that is random (topk = {}, candidates = {}, "
            "cluster_size = {}, block_size = {})",
            point.topk, point.candidates, point.cluster_size, point.block_size);
    }
    return "";
}

void check_method(const RoutingPoint& point, Method method) {
    const std::string trouble = method_trouble(point, method);
    if (!trouble.empty()) {
        std::vector<std::string_view> others;
        for (const auto& [other, name] : kNames) {
            if (method_trouble(point, other).empty()) {
                others.push_back(name);
            }
        }
        throw InputError(fmt::format("method = {}: {}; {}", to_string(method), trouble,
                                     others.empty() ? "no method answers it; use another model or scorer"
                                                    : fmt::format("use method {}", fmt::join(others, " or "))));
    }
}

}  // namespace mobalab::sim
