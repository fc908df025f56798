#include "analysis/routing_point.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "analysis/limits.h"

namespace mobalab::analysis {
namespace {

constexpr std::array<std::pair<Goal, std::string_view>, 3> goal_names{
    {{Goal::each, "each"}, {Goal::any, "any"}, {Goal::all, "all"}}};

constexpr std::array<std::pair<Activation, std::string_view>, 2> activation_names{
    {{Activation::silu, "silu"}, {Activation::none, "none"}}};

/// Collects broken rules, so that a user sees all of them at once.
class Complaints {
public:
    void integer(std::string_view name, std::int64_t value, std::int64_t low, std::int64_t high) {
        if (value >= low && value <= high) return;
        const std::int64_t nearest = std::clamp(value, low, high);
        add(fmt::format("{} = {}: must be in [{}, {}]; nearest valid value is {}", name, value, low, high, nearest));
    }

    void at_least(std::string_view name, std::int64_t value, std::int64_t low) {
        if (value < low)
            add(fmt::format("{} = {}: must be at least {}; nearest valid value is {}", name, value, low, low));
    }

    void affinity(std::string_view name, double value, double low) {
        if (std::isnan(value)) {
            add(fmt::format("{} = nan: must be a number in [{}, 1]; for example {}", name, low, low < 0 ? 0 : low));
        } else if (value < low || value > 1.0) {
            add(fmt::format("{} = {}: must be in [{}, 1] (a dot product of unit vectors{}); nearest valid value is {}",
                            name, value, low, low < 0 ? "" : ", and a signal is not below zero",
                            std::clamp(value, low, 1.0)));
        }
    }

    void real(std::string_view name, double value, double low, double high) {
        if (!(value >= low && value <= high)) {
            add(fmt::format("{} = {}: must be in [{}, {}]; nearest valid value is {}", name, value, low, high,
                            std::isnan(value) ? low : std::clamp(value, low, high)));
        }
    }

    void add(const std::string& line) {
        if (!text_.empty()) text_ += '\n';
        text_ += line;
    }

    void throw_if_any() const {
        if (!text_.empty()) throw InputError(text_);
    }

private:
    std::string text_;
};

/// -0.0 and 0.0 are the same affinity and must have the same text.
std::string shortest(double value) {
    return fmt::format("{}", value == 0.0 ? 0.0 : value);
}

template <class Enum, std::size_t size>
std::string_view name_of(const std::array<std::pair<Enum, std::string_view>, size>& names, Enum wanted) {
    for (const auto& [value, name] : names) {
        if (value == wanted) return name;
    }
    throw std::logic_error("to_string: not a value of the enumeration");
}

template <class Enum, std::size_t size>
Enum named(const std::array<std::pair<Enum, std::string_view>, size>& names, std::string_view what,
           std::string_view name) {
    std::string accepted;
    for (const auto& [value, known] : names) {
        if (known == name) return value;
        accepted += fmt::format("{}{}", accepted.empty() ? "" : ", ", known);
    }
    throw InputError(fmt::format("{} = '{}': must be one of {}", what, name, accepted));
}

/// The models that `wanted` picks, as choices in a message.
std::string models_that(bool (*wanted)(const KeyModelDefinition&)) {
    std::string names;
    for (const std::string& name : key_model_names()) {
        if (wanted(definition_of(parse_model(name)))) names += fmt::format("{}{}", names.empty() ? "" : " or ", name);
    }
    return names;
}

/// What only model text has.
void refuse_text_fields(const RoutingPoint& point, const KeyModelDefinition& model, Complaints& complaints) {
    const auto refuse = [&](std::string_view name, auto value) {
        if (value == 0) return;
        complaints.add(fmt::format("{} = {}: model {} has none; use {} = 0, or model {}", name, value, model.name, name,
                                   models_that([](const auto& m) { return m.text_keys; })));
    };
    refuse("key_mean", point.key_mean);
    refuse("query_mean", point.query_mean);
    refuse("effective_dim", point.effective_dim);
    refuse("key_memory", point.key_memory);
    refuse("sink", point.sink);
}

/// The power of 4 in [1, most_key_memory] nearest to the value, on a logarithmic scale.
std::int64_t nearest_memory(std::int64_t value) {
    std::int64_t nearest = 1;
    while (nearest < most_key_memory && 2 * nearest < value) nearest *= 4;
    return nearest;
}

void check_memory(const RoutingPoint& point, Complaints& complaints) {
    if (point.key_correlation > 0.0) {
        if (const std::int64_t nearest = nearest_memory(point.key_memory); nearest != point.key_memory) {
            complaints.add(
                fmt::format("key_memory = {} with key_correlation = {}: must be a power of 4 in [1, {}], the tokens "
                            "that correlated "
                            "keys remember at most; nearest valid value is {}",
                            point.key_memory, point.key_correlation, most_key_memory, nearest));
        }
    } else if (point.key_memory != 0) {
        complaints.add(fmt::format(
            "key_memory = {} with key_correlation = 0: independent keys remember nothing; nearest valid value is 0",
            point.key_memory));
    }
}

/// What the model itself does not take.
void check_model(const RoutingPoint& point, const KeyModelDefinition& model, Complaints& complaints) {
    if (std::abs(point.mu_noise) > 0.0 && !model.takes_mu_noise) {
        complaints.add(
            fmt::format("mu_noise = {}: must be 0 for model {} (its noise keys are uniform on the sphere); "
                        "use mu_noise = 0, or model {}",
                        point.mu_noise, model.name, models_that([](const auto& m) { return m.takes_mu_noise; })));
    }
    if (point.key_correlation > 0.0 && !model.takes_key_correlation) {
        complaints.add(fmt::format("key_correlation = {}: model {} has none; use key_correlation = 0, or model {}",
                                   point.key_correlation, model.name,
                                   models_that([](const auto& m) { return m.takes_key_correlation; })));
    }
    if (point.key_conv > 0 && !model.takes_key_conv) {
        complaints.add(fmt::format("key_conv = {}: model {} {}; use key_conv = 0, or model {}", point.key_conv,
                                   model.name, model.has_keys() ? "has none" : "has block scores only, no keys",
                                   models_that([](const auto& m) { return m.takes_key_conv; })));
    }
    if (!model.text_keys) refuse_text_fields(point, model, complaints);
}

/// What keys along a text must be (analysis/text_keys.h).
void check_text(const RoutingPoint& point, Complaints& complaints) {
    const std::int64_t least = point.sink > 0.0 ? 6 : 4;
    if (point.head_dim < least || point.head_dim % 2 != 0) {
        complaints.add(fmt::format(
            "head_dim = {} with model text{}: must be even and at least {}, as RoPE turns pairs; nearest valid value "
            "is {}",
            point.head_dim, point.sink > 0.0 ? " and a sink" : "", least,
            std::max(least, point.head_dim - point.head_dim % 2)));
    }
    if (point.cluster_size != 1) {
        complaints.add(
            fmt::format("cluster_size = {}: model text has no cluster, the needle's neighbours resemble it; "
                        "nearest valid value is 1",
                        point.cluster_size));
    }
    if (point.needles != 1) {
        complaints.add(fmt::format("needles = {}: model text has one needle; nearest valid value is 1", point.needles));
    }
    complaints.real("key_mean", point.key_mean, 0.0, most_key_mean);
    complaints.real("query_mean", point.query_mean, -1.0, 1.0);
    complaints.real("sink", point.sink, 0.0, most_sink);
    const double dims = static_cast<double>(point.head_dim - (point.sink > 0.0 ? 2 : 0));
    if (!(point.effective_dim == 0.0 || (point.effective_dim >= least_effective_dim && point.effective_dim < dims))) {
        complaints.add(fmt::format(
            "effective_dim = {}: must be in [{}, {}), or 0 for {}; nearest valid value is {}", point.effective_dim,
            least_effective_dim, dims, dims,
            point.effective_dim > 0.5 * least_effective_dim && point.effective_dim < dims ? least_effective_dim : 0.0));
    }
    check_memory(point, complaints);
}

/// What goes beyond the paper's setting.
void check_structure(const RoutingPoint& point, const KeyModelDefinition& model, Complaints& complaints) {
    complaints.integer("needles", point.needles, 1, std::clamp<std::int64_t>(point.candidates, 1, most_needles));
    complaints.real("key_correlation", point.key_correlation, 0.0, 1.0);
    if (point.key_correlation > 0.0 && model.has_keys() && point.head_dim < 3) {
        complaints.add(fmt::format(
            "key_correlation = {} with head_dim = {}: correlated unit keys need head_dim 3 or more; nearest valid "
            "value is key_correlation = 0",
            point.key_correlation, point.head_dim));
    }
    complaints.integer("key_conv", point.key_conv, 0, std::clamp<std::int64_t>(point.block_size, 0, most_key_conv));
    complaints.real("key_conv_tap", point.key_conv_tap, -most_key_conv_tap, most_key_conv_tap);
}

/// Scores beyond q . mean.
void check_scorer(const RoutingPoint& point, const KeyModelDefinition& model, Complaints& complaints) {
    const ScorerDefinition& definition = definition_of(point.scorer.kind);
    const std::int64_t sub_blocks = point.scorer.sub_blocks;
    if (sub_blocks < 1 || (sub_blocks > 1 && !definition.divides)) {
        complaints.add(fmt::format("scorer = {} with {} sub-blocks: it has 1; nearest valid value is 1",
                                   definition.name, sub_blocks));
    } else if (point.block_size >= 1 && point.block_size % sub_blocks != 0) {
        std::int64_t nearest = std::min(sub_blocks, point.block_size);
        while (point.block_size % nearest != 0) --nearest;
        complaints.add(fmt::format("scorer = {}: {} sub-blocks must divide block_size = {}; nearest valid value is {}",
                                   to_string(point.scorer), sub_blocks, point.block_size, nearest));
    }
    if (point.scorer.kind == ScorerKind::mean || definition.parts == 0) return;
    if (!model.has_keys()) {
        complaints.add(fmt::format(
            "scorer = {}: model {} has block scores only, no keys; use scorer = mean or random, or model {}",
            to_string(point.scorer), model.name, models_that([](const auto& m) { return m.has_keys(); })));
    }
    if (!is_plain(point) && !model.text_keys) {
        complaints.add(
            fmt::format("scorer = {} with needles = {}, key_correlation = {}, key_conv = {}: it is known for "
                        "one needle and independent keys; nearest valid values are 1, 0 and 0, or scorer mean",
                        to_string(point.scorer), point.needles, point.key_correlation, point.key_conv));
    }
}

}  // namespace

std::string_view to_string(Goal goal) {
    return name_of(goal_names, goal);
}

std::string_view to_string(Activation activation) {
    return name_of(activation_names, activation);
}

Goal parse_goal(std::string_view name) {
    return named(goal_names, "goal", name);
}

Activation parse_activation(std::string_view name) {
    return named(activation_names, "key_conv_activation", name);
}

std::int64_t num_blocks(std::int64_t seq_len, std::int64_t block_size) {
    Complaints complaints;
    complaints.at_least("seq_len", seq_len, 1);
    complaints.at_least("block_size", block_size, 1);
    complaints.throw_if_any();
    return (seq_len - 1) / block_size + 1;  // never overflows, unlike seq_len + block_size - 1
}

std::int64_t candidates_of_last_query(std::int64_t seq_len, std::int64_t block_size) {
    return num_blocks(seq_len, block_size) - 1;
}

void validate(const RoutingPoint& point) {
    validate(point, definition_of(point.model));
}

void validate(const RoutingPoint& point, const KeyModelDefinition& model) {
    Complaints complaints;
    complaints.at_least("head_dim", point.head_dim, least_head_dim);
    complaints.at_least("block_size", point.block_size, 1);
    complaints.integer("candidates", point.candidates, 1, most_candidates);
    complaints.integer("topk", point.topk, 1, most_topk);
    if (point.block_size >= 1) {
        if (point.cluster_size > point.block_size) {
            complaints.add(
                fmt::format("cluster_size = {}: must be at most block_size = {} (a cluster lies in one block); "
                            "nearest valid value is {}",
                            point.cluster_size, point.block_size, point.block_size));
        }
        complaints.at_least("cluster_size", point.cluster_size, 1);
    }
    complaints.affinity("mu_signal", point.mu_signal, 0.0);
    complaints.affinity("mu_noise", point.mu_noise, -1.0);
    complaints.affinity("mu_cluster", point.mu_cluster, -1.0);
    check_model(point, model, complaints);
    check_structure(point, model, complaints);
    check_scorer(point, model, complaints);
    if (model.text_keys) check_text(point, complaints);
    complaints.throw_if_any();
}

bool is_plain(const RoutingPoint& point) {
    return point.needles == 1 && !(point.key_correlation > 0.0) && point.key_conv == 0;
}

std::string canonical_text(const RoutingPoint& point) {
    std::string text = fmt::format("block_size={};candidates={};cluster_size={}", point.block_size, point.candidates,
                                   point.cluster_size);
    const auto add = [&text](std::string_view name, const auto& value) { text += fmt::format(";{}={}", name, value); };
    if (point.effective_dim > 0.0) add("effective_dim", shortest(point.effective_dim));
    if (point.needles > 1) add("goal", to_string(point.goal));
    add("head_dim", point.head_dim);
    if (point.key_conv > 0) {
        add("key_conv", point.key_conv);
        add("key_conv_activation", to_string(point.key_conv_activation));
        add("key_conv_tap", shortest(point.key_conv_tap));
    }
    if (point.key_correlation > 0.0) add("key_correlation", shortest(point.key_correlation));
    if (point.key_mean > 0.0) add("key_mean", shortest(point.key_mean));
    if (point.key_memory > 0) add("key_memory", point.key_memory);
    add("model", to_string(point.model));
    add("mu_cluster", shortest(point.mu_cluster));
    add("mu_noise", shortest(point.mu_noise));
    add("mu_signal", shortest(point.mu_signal));
    if (point.needles > 1) add("needles", point.needles);
    if (point.query_mean != 0.0) add("query_mean", shortest(point.query_mean));
    if (point.scorer != Scorer{}) add("scorer", to_string(point.scorer));
    if (point.sink > 0.0) add("sink", shortest(point.sink));
    add("topk", point.topk);
    return text;
}

}  // namespace mobalab::analysis
