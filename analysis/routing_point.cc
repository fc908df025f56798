#include "analysis/routing_point.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace mobalab::analysis {
namespace {

constexpr std::array<std::pair<Model, std::string_view>, 4> model_names{{
    {Model::gaussian, "gaussian"},
    {Model::gaussian_fixed, "gaussian-fixed"},
    {Model::sphere, "sphere"},
    {Model::vector, "vector"},
}};

constexpr std::int64_t max_candidates = 1'000'000;
constexpr std::int64_t max_topk = 512;

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

}  // namespace

std::string_view to_string(Model model) {
    for (const auto& [value, name] : model_names) {
        if (value == model) return name;
    }
    throw std::logic_error("to_string: not a Model");
}

Model parse_model(std::string_view name) {
    for (const auto& [value, known] : model_names) {
        if (known == name) return value;
    }
    throw InputError(fmt::format("model = '{}': must be one of gaussian, gaussian-fixed, sphere, vector", name));
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
    Complaints complaints;
    complaints.at_least("head_dim", point.head_dim, 2);
    complaints.at_least("block_size", point.block_size, 1);
    complaints.integer("candidates", point.candidates, 1, max_candidates);
    complaints.integer("topk", point.topk, 1, max_topk);
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
    const bool unit_keys = point.model == Model::sphere || point.model == Model::vector;
    if (unit_keys && std::abs(point.mu_noise) > 0.0) {
        complaints.add(
            fmt::format("mu_noise = {}: must be 0 for model {} (its noise keys are uniform on the sphere); "
                        "use mu_noise = 0, or model gaussian or gaussian-fixed",
                        point.mu_noise, to_string(point.model)));
    }
    complaints.throw_if_any();
}

std::string canonical_text(const RoutingPoint& point) {
    return fmt::format(
        "block_size={};candidates={};cluster_size={};head_dim={};model={};mu_cluster={};mu_noise={};mu_signal={};topk={"
        "}",
        point.block_size, point.candidates, point.cluster_size, point.head_dim, to_string(point.model),
        shortest(point.mu_cluster), shortest(point.mu_noise), shortest(point.mu_signal), point.topk);
}

}  // namespace mobalab::analysis
