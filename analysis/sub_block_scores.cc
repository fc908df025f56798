#include "analysis/sub_block_scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "analysis/affinity_sum.h"
#include "analysis/binomial_tail.h"
#include "analysis/log_space.h"
#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

/// log(1 - (1 - p)^n) from log p and log(1 - p).
double log_at_least_one(double log_p, double log_1mp, double n) {
    constexpr double tiny = -60.0;  // n p < 1e-20: what 1 - p rounds to is no longer enough
    return log_p < tiny ? log_p + std::log(n) : log_one_minus_exp(n * log_1mp);
}

/// The sum of `keys` affinities and of a constant, less the sub-block's length.
class ShiftedSum {
public:
    ShiftedSum(std::int64_t head_dim, std::int64_t keys, double constant, std::int64_t length)
        : sum_(keys > 0 ? affinity_sum(head_dim, keys) : nullptr),
          low_(constant - static_cast<double>(keys + length)),
          high_(constant - static_cast<double>(length - keys)),
          smoothness_(smoothness(head_dim, keys)),
          nearest_(1e-12 * static_cast<double>(keys)) {}

    LogLaw at(const Score& score) const {
        if (!sum_) return score.low >= low_ ? LogLaw{log_zero, 0.0, log_zero} : LogLaw{0.0, log_zero, log_zero};
        const double lower = (score.low - low_) + score.above_low;
        const double upper = (high_ - score.high) + score.below_high;
        const double gap = std::min(lower, upper);
        if (!(smoothness_ >= steep) || gap <= 0.0 || gap >= nearest_) return sum_->at_gaps(lower, upper);
        // Nearer to the end of a smooth law than its integral can go: the law of the end itself, gap^smoothness.
        const double log_share = std::log(gap / nearest_);
        LogLaw law = lower < upper ? sum_->at_gaps(nearest_, upper) : sum_->at_gaps(lower, nearest_);
        (lower < upper ? law.lower : law.upper) += smoothness_ * log_share;
        law.density += (smoothness_ - 1.0) * log_share;
        return law;
    }

    void add_knots(std::vector<double>& knots) const {
        knots.push_back(low_);
        knots.push_back(high_);
        if (!sum_) return;
        for (const double knot : sum_->knots()) knots.push_back(0.5 * (low_ + high_) + knot);
    }

private:
    static constexpr double steep = 12.0;  ///< at nearest_ the tail is then below 1e-140

    std::shared_ptr<const AffinitySum> sum_;
    double low_;
    double high_;
    double smoothness_;
    double nearest_;
};

class BestOfEqual final : public ScoreLaw {
public:
    BestOfEqual(std::int64_t head_dim, std::int64_t keys, std::int64_t count)
        : one_(head_dim, keys, 0.0, keys), count_(static_cast<double>(count)) {}

    LogLaw at(const Score& score) const override {
        const LogLaw one = one_.at(score);
        const double others = count_ > 1.0 ? (count_ - 1.0) * one.lower : 0.0;
        return {log_at_least_one(one.upper, one.lower, count_), count_ * one.lower,
                std::log(count_) + others + one.density};
    }

private:
    ShiftedSum one_;
    double count_;
};

double log_choose(std::int64_t n, std::int64_t k) {
    return k <= n ? log_binomial_coefficient(n, std::min(k, n - k)) : log_zero;
}

/// Coefficients of z^0 .. z^degree as logs, each in two parts: with every sub-block at or below the score, and without.
/// Together they are those of (1 + z)^slots.
struct Split {
    std::int64_t slots;
    std::vector<double> below;
    std::vector<double> above;
};

/// log of sum over a of exp(x_a + y_(k-a)).
double log_convolution(const std::vector<double>& x, const std::vector<double>& y, std::size_t k) {
    double peak = log_zero;
    for (std::size_t a = 0; a <= k; ++a) peak = std::max(peak, x[a] + y[k - a]);
    if (peak == log_zero) return log_zero;
    double sum = 0.0;
    for (std::size_t a = 0; a <= k; ++a) sum += std::exp(x[a] + y[k - a] - peak);
    return peak + std::log(sum);
}

/// Coefficients from z^`from` on; those before are left -inf.
Split product(const Split& x, const Split& y, std::size_t from) {
    const std::size_t size = x.below.size();
    std::vector<double> whole(size);
    for (std::size_t a = 0; a < size; ++a) whole[a] = log_choose(y.slots, static_cast<std::int64_t>(a));
    Split result{x.slots + y.slots, std::vector<double>(size, log_zero), std::vector<double>(size, log_zero)};
    for (std::size_t k = from; k < size; ++k) {
        result.below[k] = log_convolution(x.below, y.below, k);
        result.above[k] = log_sum_exp(log_convolution(x.above, whole, k), log_convolution(x.below, y.above, k));
    }
    return result;
}

class SignalOfSubBlocks final : public ScoreLaw {
public:
    explicit SignalOfSubBlocks(const RoutingPoint& point)
        : keys_(point.block_size / point.scorer.sub_blocks),
          other_sub_blocks_(point.scorer.sub_blocks - 1),
          others_(point.cluster_size - 1),
          log_ways_(log_choose(point.block_size - 1, others_)) {
        for (std::int64_t a = 0; a <= std::min(others_, keys_); ++a) {
            const double constant = static_cast<double>(a) * point.mu_cluster;
            if (a < keys_) {
                with_needle_.emplace_back(point.head_dim, keys_ - 1 - a, point.mu_signal + constant, keys_);
            }
            if (other_sub_blocks_ > 0) without_.emplace_back(point.head_dim, keys_ - a, constant, keys_);
        }
    }

    /// Tails alone.
    LogLaw at(const Score& score) const override {
        Split all = split(with_needle_, keys_ - 1, score);
        if (other_sub_blocks_ > 0) {
            // Square and multiply; the last product needs its last coefficient alone.
            Split power = split(without_, keys_, score);
            std::int64_t left = other_sub_blocks_;
            for (; left > 1; left /= 2) {
                if (left % 2 == 1) all = product(all, power, 0);
                power = product(power, power, 0);
            }
            all = product(all, power, static_cast<std::size_t>(others_));
        }
        return {std::min(0.0, all.above.back() - log_ways_), std::min(0.0, all.below.back() - log_ways_), std::nan("")};
    }

    void add_knots(std::vector<double>& knots) const {
        for (const ShiftedSum& sum : with_needle_) sum.add_knots(knots);
        for (const ShiftedSum& sum : without_) sum.add_knots(knots);
    }

private:
    Split split(const std::vector<ShiftedSum>& sums, std::int64_t slots, const Score& score) const {
        const auto size = static_cast<std::size_t>(others_) + 1;
        Split result{slots, std::vector<double>(size, log_zero), std::vector<double>(size, log_zero)};
        for (std::size_t a = 0; a < sums.size(); ++a) {
            const LogLaw law = sums[a].at(score);
            const double ways = log_choose(slots, static_cast<std::int64_t>(a));
            result.below[a] = ways + law.lower;
            result.above[a] = ways + law.upper;
        }
        return result;
    }

    std::int64_t keys_;
    std::int64_t other_sub_blocks_;
    std::int64_t others_;  ///< tokens of the cluster besides the needle
    double log_ways_;
    std::vector<ShiftedSum> with_needle_;  ///< the needle's sub-block with a of them, by a
    std::vector<ShiftedSum> without_;      ///< any other sub-block
};

/// The K-th largest of n scores, each the best of r sums that are taken for normal (Blom's plotting position).
RoughPlace rough_threshold(const RoutingPoint& point, double keys, double sd) {
    const auto n = static_cast<double>(point.noise_blocks());
    const auto r = static_cast<double>(point.scorer.sub_blocks);
    const double p = (static_cast<double>(point.routed()) - 0.375) / (n + 0.25);
    const double one_above = -std::expm1(std::log1p(-p) / r);
    const double z = normal_upper_quantile(one_above);
    const double log_density = std::log(r) + (r - 1.0) * std::log1p(-one_above) + log_normal_density(z);
    return {sd * z - keys, sd * std::sqrt(p * (1.0 - p) / (n + 2.0)) * std::exp(-log_density)};
}

/// The needle's sub-block without others and with as many as it holds, another sub-block likewise.
std::vector<RoughPlace> rough_signals(const RoutingPoint& point, std::int64_t keys, double sd) {
    const auto length = static_cast<double>(keys);
    const std::int64_t others = point.cluster_size - 1;
    const auto place = [&](double mu, std::int64_t a, std::int64_t free_keys) {
        return RoughPlace{mu + static_cast<double>(a) * point.mu_cluster - length,
                          std::sqrt(static_cast<double>(free_keys) / static_cast<double>(point.head_dim))};
    };
    std::vector<RoughPlace> places{place(point.mu_signal, 0, keys - 1)};
    const std::int64_t beside = std::min(others, keys - 1);
    if (beside > 0) places.push_back(place(point.mu_signal, beside, keys - 1 - beside));
    if (point.scorer.sub_blocks == 1) return places;
    const std::int64_t apart = std::min(others, keys);
    if (apart > 0) places.push_back(place(0.0, apart, keys - apart));
    const double median_of_others = 1.0 - std::exp2(-1.0 / static_cast<double>(point.scorer.sub_blocks - 1));
    places.push_back({sd * normal_upper_quantile(median_of_others) - length, 0.5 * sd});
    return places;
}

}  // namespace

std::shared_ptr<const ScoreLaw> noise_of_sub_blocks(std::int64_t head_dim, std::int64_t keys, std::int64_t sub_blocks) {
    return std::make_shared<BestOfEqual>(head_dim, keys, sub_blocks);
}

std::shared_ptr<const ScoreLaw> signal_of_sub_blocks(const RoutingPoint& point) {
    return std::make_shared<SignalOfSubBlocks>(point);
}

ThresholdProblem sub_block_problem(const RoutingPoint& point) {
    const std::int64_t keys = point.block_size / point.scorer.sub_blocks;
    const double low = -2.0 * static_cast<double>(keys);
    const double sd = std::sqrt(static_cast<double>(keys) / static_cast<double>(point.head_dim));
    const auto signal = std::make_shared<SignalOfSubBlocks>(point);
    std::vector<double> knots{low, 0.0};
    ShiftedSum(point.head_dim, keys, 0.0, keys).add_knots(knots);
    signal->add_knots(knots);
    std::sort(knots.begin(), knots.end());
    knots.erase(std::unique(knots.begin(), knots.end()), knots.end());
    std::erase_if(knots, [&](double knot) { return knot < low || knot > 0.0; });
    return {.noise_blocks = point.noise_blocks(),
            .slots = point.routed(),
            .noise = noise_of_sub_blocks(point.head_dim, keys, point.scorer.sub_blocks),
            .signal = signal,
            .knots = std::move(knots),
            .threshold = rough_threshold(point, static_cast<double>(keys), sd),
            .signals = rough_signals(point, keys, sd)};
}

}  // namespace mobalab::analysis
