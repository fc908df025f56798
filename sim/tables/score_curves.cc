#include "sim/tables/score_curves.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "analysis/affinity_sum.h"
#include "analysis/binomial_tail.h"
#include "analysis/hit_problem.h"
#include "analysis/log_space.h"
#include "analysis/normal_law.h"
#include "sim/tables/law_curve.h"

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

/// Law of the K-th largest of n independent noise scores: it is above s when K or more of them are.
class NoiseRankLaw final : public analysis::ScoreLaw {
public:
    NoiseRankLaw(std::shared_ptr<const analysis::ScoreLaw> noise, std::int64_t noise_blocks, std::int64_t slots)
        : noise_(std::move(noise)), count_(noise_blocks, slots) {}

    /// Tails alone: nobody here asks for the density.
    analysis::LogLaw at(const analysis::Score& score) const override {
        const analysis::LogLaw noise = noise_->at(score);
        const analysis::LogTails tails = count_.at(noise.upper, noise.lower);
        return {tails.upper, tails.lower, std::nan("")};
    }

private:
    std::shared_ptr<const analysis::ScoreLaw> noise_;
    analysis::BinomialTail count_;
};

/// log P(S < T) as a function of log V, V = P(a T' drawn likewise is higher).
class MissGivenRank {
public:
    explicit MissGivenRank(const RoutingPoint& point) : MissGivenRank(laws_of(point), point) {}

    double log_miss(double log_v) const {
        const double logit = curve_.target_logit(analysis::log_one_minus_exp(log_v) - log_v);
        return logit < 0.0 ? logit - std::log1p(std::exp(logit)) : -std::log1p(std::exp(-logit));
    }

    static constexpr double kLeastLogV = -600.0;

private:
    MissGivenRank(const TopKProblem& problem, const RoutingPoint& point)
        : curve_({std::make_shared<NoiseRankLaw>(problem.noise, point.noise_blocks(), point.routed()),
                  problem.noise_low, problem.noise_high},
                 signal_law(problem), problem.knots, rank_mean(problem, point), 0.3 * problem.noise_sd, -kLastLogit,
                 -kLeastLogV) {}

    /// Blom's approximation: where to look first.
    static double rank_mean(const TopKProblem& problem, const RoutingPoint& point) {
        const double share =
            (static_cast<double>(point.routed()) - 0.375) / (static_cast<double>(point.noise_blocks()) + 0.25);
        const double mean = problem.noise_mean + problem.noise_sd * analysis::normal_upper_quantile(share);
        return std::clamp(mean, problem.noise_low + 0.01 * problem.noise_sd,
                          problem.noise_high - 0.01 * problem.noise_sd);
    }

    LawCurve curve_;
};

/// The a >= 1 with the least a int w^2 V^(1 - 1/a) dV, the second moment of the weights.
double best_power(const MissGivenRank& curve) {
    constexpr double kStep = 0.25;
    const auto log_v = [](std::size_t i) { return -kStep * (static_cast<double>(i) + 0.5); };
    std::vector<double> log_w2;
    while (log_v(log_w2.size()) > MissGivenRank::kLeastLogV) {
        log_w2.push_back(2.0 * curve.log_miss(log_v(log_w2.size())));
        if (log_v(log_w2.size()) < log_w2.front() - 40.0) {
            break;  // V itself is negligible, whatever the weight
        }
    }
    constexpr int kPowers = 20;  // 1 to 14.2
    double best = 1.0;
    double least = HUGE_VAL;
    for (int i = 0; i < kPowers; ++i) {
        const double power = std::pow(1.15, i);
        double moment = -HUGE_VAL;
        for (std::size_t j = 0; j < log_w2.size(); ++j) {
            moment = analysis::log_sum_exp(moment, log_w2[j] + (2.0 - 1.0 / power) * log_v(j));
        }
        moment += std::log(power);
        if (moment < least) {
            least = moment;
            best = power;
        }
    }
    return best;
}

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
        return 0x1p64 * logistic_of_minus(curve.target_logit(logit(from_end, upper)));
    });
}

MissWeights miss_weights(const RoutingPoint& point) {
    const MissGivenRank curve(point);
    const double power = best_power(curve);
    return {OctaveTable::of([&](double from_end, bool upper) {
                const double log_y = upper ? std::log1p(-from_end) : std::log(from_end);
                return std::exp(curve.log_miss(power * log_y) + (power - 1.0) * log_y) * power;
            }),
            power};
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
