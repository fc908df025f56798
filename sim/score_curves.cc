#include "sim/score_curves.h"

#include <boost/math/special_functions/beta.hpp>
#include <cmath>

#include "analysis/affinity_sum.h"
#include "analysis/hit_problem.h"
#include "sim/law_curve.h"

namespace mobalab::sim {
namespace {

using analysis::RoutingPoint;
using analysis::TopKProblem;

/// Beyond every uniform the tables can hold: |logit(2^-54)| = 37.4.
constexpr double kLastLogit = 38.0;

/// The laws alone: they do not depend on candidates and topk, which the problem checks.
TopKProblem laws_of(RoutingPoint point) {
    point.candidates = 2;
    point.topk = 2;
    return analysis::top_k_problem(point);
}

CurveLaw noise_law(const TopKProblem& problem) {
    return {problem.noise, problem.noise_low, problem.noise_high};
}

CurveLaw signal_law(const TopKProblem& problem) {
    return {problem.signal, problem.signal_low, problem.signal_high};
}

/// 1 / (1 + exp(x)).
double logistic_of_minus(double x) {
    return 1.0 / (1.0 + std::exp(x));
}

/// Logit of U at `from_end` from 0, or from 1 where `upper`.
double logit(double from_end, bool upper) {
    const double x = std::log(from_end) - std::log1p(-from_end);
    return upper ? -x : x;
}

/// Law of sums of `terms` affinities, alone on its support.
class SumLaw final : public analysis::ScoreLaw {
public:
    explicit SumLaw(std::shared_ptr<const analysis::AffinitySum> sum) : sum_(std::move(sum)) {}
    analysis::LogLaw at(const analysis::Score& score) const override {
        return sum_->at_gaps(score.above_low, score.below_high);
    }

private:
    std::shared_ptr<const analysis::AffinitySum> sum_;
};

ScoreTable table_of_sum(std::int64_t head_dim, std::int64_t terms, double unit) {
    const auto sum = analysis::affinity_sum(head_dim, terms);
    const auto end = static_cast<double>(terms);
    const CurveLaw law{std::make_shared<SumLaw>(sum), -end, end};
    const double sd = std::sqrt(end / static_cast<double>(head_dim));
    constexpr double kLast = 24.0;  // the table ends at 2^-33: logit 22.9
    const LawCurve curve(law, law, sum->knots(), 0.0, sd, -kLast, kLast);
    return ScoreTable::of([&](double tail) { return tail < 0.5 ? curve.score(logit(tail, true)) / unit : 0.0; });
}

}  // namespace

OctaveTable noise_above_signal_table(const RoutingPoint& point) {
    if (analysis::signal_is_fixed(point)) {
        const double above = std::exp(analysis::noise_at_fixed_signal(point).upper);
        return OctaveTable::of([&](double, bool) { return 0x1p64 * above; });
    }
    const TopKProblem problem = laws_of(point);
    const LawCurve curve(signal_law(problem), noise_law(problem), problem.knots, problem.signal_mean, problem.signal_sd,
                         -kLastLogit, kLastLogit);
    return OctaveTable::of([&](double from_end, bool upper) {
        return 0x1p64 * logistic_of_minus(curve.passenger_logit(logit(from_end, upper)));
    });
}

OctaveTable miss_at_noise_rank_table(const RoutingPoint& point) {
    const TopKProblem problem = laws_of(point);
    const auto a = static_cast<double>(point.routed());
    const auto b = static_cast<double>(point.noise_blocks() - point.routed() + 1);
    /// Lower logit of the noise score whose upper tail U has P(Beta <= U) as given.
    const auto noise_logit = [&](double from_end, bool upper) {
        double complement = 0.0;
        const double tail = upper ? boost::math::ibetac_inv(a, b, from_end, &complement)
                                  : boost::math::ibeta_inv(a, b, from_end, &complement);
        return std::log(complement) - std::log(tail);
    };
    const double from = noise_logit(0x1p-54, true) - 0.1;
    const double to = noise_logit(0x1p-54, false) + 0.1;
    const LawCurve curve(noise_law(problem), signal_law(problem), problem.knots, problem.noise_mean, problem.noise_sd,
                         from, to);
    return OctaveTable::of([&](double from_end, bool upper) {
        return logistic_of_minus(-curve.passenger_logit(noise_logit(from_end, upper)));
    });
}

BlockScoreTables block_score_tables(const RoutingPoint& point) {
    const double unit = std::sqrt(static_cast<double>(point.block_size) / static_cast<double>(point.head_dim));
    const std::int64_t free_keys = point.block_size - point.cluster_size;
    BlockScoreTables tables;
    tables.noise = table_of_sum(point.head_dim, point.block_size, unit);
    if (free_keys > 0) {
        tables.signal = table_of_sum(point.head_dim, free_keys, unit);
    }
    return tables;
}

}  // namespace mobalab::sim
