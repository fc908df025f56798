#include "analysis/measured_scores/empirical_hit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/binomial_tail.h"
#include "analysis/limits.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

void check(const WeightedScore& value) {
    if (std::isnan(value.score)) throw InputError("score = nan: must be a number; leave such blocks out");
    if (!(value.weight >= 0.0 && std::isfinite(value.weight))) {
        throw InputError(
            fmt::format("weight = {}: must be finite and not negative; nearest valid value is 0", value.weight));
    }
}

}  // namespace

EmpiricalScores::EmpiricalScores(std::vector<WeightedScore> sample) {
    std::for_each(sample.begin(), sample.end(), check);
    std::sort(sample.begin(), sample.end(),
              [](const WeightedScore& a, const WeightedScore& b) { return a.score < b.score; });
    double sum = 0.0;
    for (const WeightedScore& value : sample) {
        if (value.weight == 0.0) continue;
        if (scores_.empty() || value.score != scores_.back()) {
            scores_.push_back(value.score);
            weight_below_.push_back(sum);
        }
        sum += value.weight;
    }
    if (!(sum > 0.0)) throw InputError("sample = no weight: a law needs at least one score of positive weight");
    weight_below_.push_back(sum);
}

EmpiricalScores::Beats EmpiricalScores::beats(double score, Ties ties) const {
    const auto first = std::lower_bound(scores_.begin(), scores_.end(), score);
    const auto at = static_cast<std::size_t>(first - scores_.begin());
    const bool ties_exist = first != scores_.end() && *first == score;
    const double total = weight_below_.back();
    const double below = weight_below_[at];
    const double up_to = ties_exist ? weight_below_[at + 1] : below;
    const double share = ties == Ties::halves ? 0.5 : (ties == Ties::rivals_win ? 1.0 : 0.0);
    const double tied = up_to - below;
    return {std::log((total - up_to + share * tied) / total), std::log((below + (1.0 - share) * tied) / total)};
}

double hit_of_samples(std::span<const WeightedScore> targets, const EmpiricalScores& rivals, std::int64_t candidates,
                      std::int64_t slots, Ties ties) {
    if (candidates < 1 || candidates > most_candidates) {
        throw InputError(fmt::format("candidates = {}: must be between 1 and {}; nearest valid value is {}", candidates,
                                     most_candidates, candidates < 1 ? 1 : most_candidates));
    }
    if (slots < 0) throw InputError(fmt::format("slots = {}: must be at least 0; nearest valid value is 0", slots));
    std::for_each(targets.begin(), targets.end(), check);
    const BinomialTail tail(candidates - 1, slots);
    double sum = 0.0;
    double total = 0.0;
    for (const WeightedScore& target : targets) {
        if (target.weight == 0.0) continue;
        const EmpiricalScores::Beats beats = rivals.beats(target.score, ties);
        sum += target.weight * std::exp(tail.at(beats.log_p, beats.log_1mp).lower);
        total += target.weight;
    }
    if (!(total > 0.0)) throw InputError("targets = no weight: a mean needs at least one target of positive weight");
    return sum / total;
}

}  // namespace mobalab::analysis
