#include "analysis/hit_problem.h"

#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <utility>

#include "analysis/binomial_tail.h"
#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

/// Law of the h-th largest of R independent scores.
class OrderStatisticLaw final : public ScoreLaw {
public:
    OrderStatisticLaw(std::shared_ptr<const ScoreLaw> one, std::int64_t count, std::int64_t rank)
        : one_(std::move(one)),
          tails_(count, rank),
          above_(static_cast<double>(rank - 1)),
          below_(static_cast<double>(count - rank)),
          log_constant_(log_binomial_coefficient(count, rank) + std::log(static_cast<double>(rank))) {}

    LogLaw at(const Score& score) const override {
        const LogLaw law = one_->at(score);
        const LogTails tails = tails_.at(law.upper, law.lower);
        // A factor to the power 0 is 1 even where its logarithm is -inf.
        const double above = above_ > 0.0 ? above_ * law.upper : 0.0;
        const double below = below_ > 0.0 ? below_ * law.lower : 0.0;
        return {tails.upper, tails.lower, log_constant_ + above + below + law.density};
    }

private:
    std::shared_ptr<const ScoreLaw> one_;
    BinomialTail tails_;
    double above_;
    double below_;
    double log_constant_;  ///< of R! / ((h - 1)! (R - h)!)
};

/// The problem of one needle turned into that of the h-th best of R.
TopKProblem with_needles(TopKProblem problem, std::int64_t needles, std::int64_t found) {
    problem.slots -= found - 1;
    if (needles == 1) return problem;
    problem.signal = std::make_shared<OrderStatisticLaw>(problem.signal, needles, found);
    // Rough centre and spread: Blom's plotting position, and the asymptotic standard deviation of a quantile.
    const double p = (static_cast<double>(found) - 0.375) / (static_cast<double>(needles) + 0.25);
    const double z = normal_upper_quantile(p);
    problem.signal_mean += problem.signal_sd * z;
    problem.signal_sd *=
        std::sqrt(p * (1.0 - p) / (static_cast<double>(needles) + 2.0)) * std::exp(-log_normal_density(z));
    return problem;
}

/// The laws of the point's model. A point without is a caller's mistake that must not get another law.
const BlockScoreLaws& laws_of(const RoutingPoint& point) {
    const std::string trouble = block_score_trouble(point, definition_of(point.model));
    if (!trouble.empty()) throw InputError(trouble);
    return *definition_of(point.model).laws;
}

}  // namespace

std::string block_score_trouble(const RoutingPoint& point, const KeyModelDefinition& model) {
    if (point.scorer.kind != ScorerKind::mean) {
        return fmt::format("scorer = {}: these are the laws of scorer mean", to_string(point.scorer));
    }
    if (model.laws == nullptr) {
        return fmt::format("model = {}: it has no exact probability of scorer mean; use command simulate", model.name);
    }
    return model.laws->trouble(point);
}

std::string exact_trouble(const RoutingPoint& point, const KeyModelDefinition& model) {
    const ScorerDefinition& scorer = definition_of(point.scorer.kind);
    if (scorer.law == nullptr) {
        return fmt::format("scorer = {}: its exact probability is not known; use command simulate, or one of scorer {}",
                           to_string(point.scorer), scorers_with_law());
    }
    return scorer.law->trouble(point, model);
}

bool has_exact_probability(const RoutingPoint& point) {
    return exact_trouble(point, definition_of(point.model)).empty();
}

bool has_block_score_laws(const RoutingPoint& point) {
    return block_score_trouble(point, definition_of(point.model)).empty();
}

NormalSignal normal_signal(const RoutingPoint& point) {
    return laws_of(point).signal(point);
}

TopKProblem top_k_problem(const RoutingPoint& point, std::int64_t found) {
    return with_needles(laws_of(point).problem(point), point.needles, found);
}

bool signal_is_fixed(const RoutingPoint& point) {
    return laws_of(point).noise_at_fixed_signal != nullptr && point.cluster_size == point.block_size;
}

LogLaw noise_at_fixed_signal(const RoutingPoint& point) {
    return laws_of(point).noise_at_fixed_signal(point);
}

}  // namespace mobalab::analysis
