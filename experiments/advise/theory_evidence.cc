#include "experiments/advise/theory_evidence.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "analysis/hit_probability.h"
#include "analysis/hit_problem.h"
#include "analysis/scorer_approximation.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;
using analysis::RoutingPoint;

struct Answer {
    double hit;
    const char* source;
};

Answer answer_of(const RoutingPoint& point) {
    analysis::validate(point);
    if (!analysis::has_exact_probability(point) && analysis::has_approximation(point)) {
        return {analysis::approximate_hit_probability(point).hit(), "normal approximation"};
    }
    return {analysis::exact_hit_probability(point).hit(), "exact"};
}

/// With block 0 kept: of the other blocks one less competes for one slot less.
Answer answer_with_first_kept(RoutingPoint point) {
    const double in_first = 1.0 / static_cast<double>(point.candidates);
    --point.candidates;
    --point.topk;
    const Answer elsewhere = answer_of(point);
    return {in_first + (1.0 - in_first) * elsewhere.hit, elsewhere.source};
}

bool is_flat(const std::vector<double>& profile) {
    return std::all_of(profile.begin() + 1, profile.end(), [&](double mu) { return mu == profile[1]; });
}

RoutingPoint point_of(const Assumption& assumption, const Setting& setting) {
    RoutingPoint point;
    point.model = assumption.model;
    point.head_dim = assumption.head_dim;
    point.block_size = setting.block_size;
    point.topk = setting.topk;
    point.seq_len = assumption.seq_len;
    point.scorer = analysis::parse_scorer(setting.scorer);
    point.candidates = analysis::candidates_of_last_query(assumption.seq_len, setting.block_size);
    point.cluster_size = static_cast<std::int64_t>(assumption.profile.size());
    point.mu_signal = assumption.profile.front();
    if (point.cluster_size > 1) {
        const double others = std::accumulate(assumption.profile.begin() + 1, assumption.profile.end(), 0.0);
        point.mu_cluster = others / static_cast<double>(point.cluster_size - 1);
    }
    return point;
}

/// Why a setting cannot be; empty: it can.
std::string impossible(const RoutingPoint& point) {
    if (point.candidates < 1) {
        return fmt::format("B {} leaves no past block in {} tokens", point.block_size, point.seq_len);
    }
    if (point.topk == 1 || point.topk > point.candidates) {
        return fmt::format("B {}, k {}: {} of {} past blocks", point.block_size, point.topk,
                           point.topk == 1 ? "keeps none" : "keeps all", point.candidates);
    }
    if (point.cluster_size > point.block_size) {
        return fmt::format("B {}: the profile's {} tokens do not fit into a block", point.block_size,
                           point.cluster_size);
    }
    if (point.block_size % point.scorer.sub_blocks != 0) {
        return fmt::format("B {}: has no {} equal sub-blocks", point.block_size, point.scorer.sub_blocks);
    }
    return "";
}

void require_profile(const Assumption& assumption, const std::string& scorer) {
    if (assumption.profile.size() > 1 && !is_flat(assumption.profile) && scorer != "mean" && scorer != "random") {
        throw InputError(fmt::format(
            "profile: scorer {} has a law for tokens of equal affinity behind the needle only; nearest valid: --scorer "
            "mean, or a profile like {:.4g},{:.4g},{:.4g}",
            scorer, assumption.profile[0], assumption.profile[1], assumption.profile[1]));
    }
}

std::vector<Setting> settings_of(const SettingGrid& grid) {
    std::set<Setting> settings;
    for (const std::string& scorer : grid.scorers) {
        for (const std::int64_t size : grid.block_sizes) {
            std::set<std::int64_t> topks(grid.topks.begin(), grid.topks.end());
            for (const std::int64_t budget : grid.budgets) {
                if (budget % size == 0 && budget > size) {
                    topks.insert(budget / size);
                }
            }
            for (const std::int64_t topk : topks) {
                for (const bool keep_first : grid.keep_first) {
                    settings.insert({.scorer = scorer,
                                     .block_size = size,
                                     .topk = topk,
                                     .sub_blocks = analysis::parse_scorer(scorer).sub_blocks,
                                     .keep_first = keep_first});
                }
            }
        }
    }
    return {settings.begin(), settings.end()};
}

std::string origin_of(const Assumption& assumption) {
    return fmt::format("theory: {} keys, independent, one needle with affinities {} from its block's first key on",
                       analysis::to_string(assumption.model), fmt::join(assumption.profile, ", "));
}

}  // namespace

Evidence theory_evidence(const Assumption& assumption, const SettingGrid& grid) {
    if (assumption.profile.empty()) {
        throw InputError("profile = (nothing): must hold the needle's affinity at least; nearest valid: 0.8");
    }
    Evidence evidence{.seq_len = assumption.seq_len, .head_dim = assumption.head_dim, .origin = origin_of(assumption)};
    std::int64_t left_out = 0;
    std::string first;
    for (const Setting& setting : settings_of(grid)) {
        require_profile(assumption, setting.scorer);
        const RoutingPoint point = point_of(assumption, setting);
        const std::string trouble = impossible(point);
        if (!trouble.empty()) {
            first = left_out++ == 0 ? trouble : first;
            continue;
        }
        const Answer answer = setting.keep_first ? answer_with_first_kept(point) : answer_of(point);
        Candidate candidate{.setting = setting, .source = answer.source};
        candidate.needle_hit = answer.hit;
        evidence.candidates.push_back(candidate);
    }
    if (evidence.candidates.empty()) {
        throw InputError("block-size, topk: no setting asked for can be" + (first.empty() ? "" : ": " + first));
    }
    evidence.notes.push_back(
        "independent keys and one needle: on heads of a real model (SmolLM2-135M) this probability was off by 0.53 on "
        "average; record a trace to know");
    if (left_out > 0) {
        evidence.notes.push_back(
            fmt::format("settings left out, as they cannot be or keep all past blocks or none: {}, the first: {}",
                        left_out, first));
    }
    return evidence;
}

}  // namespace mobalab::experiments
