#include "analysis/measured_scores/independent_rivals.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "analysis/poisson_binomial_cdf.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

void check(const NormalScore& score) {
    if (!std::isfinite(score.mean)) {
        throw InputError(fmt::format("mean = {}: must be finite; for example 0", score.mean));
    }
    if (!(std::isfinite(score.sd) && score.sd >= 0.0)) {
        throw InputError(fmt::format("sd = {}: must be finite and not negative; nearest valid value is 0", score.sd));
    }
}

/// P(X > s); a fixed score that equals s beats it half the time.
double above(const NormalScore& rival, double s) {
    if (rival.sd > 0.0) return 0.5 * std::erfc((s - rival.mean) / rival.sd / std::numbers::sqrt2);
    return rival.mean > s ? 1.0 : (rival.mean == s ? 0.5 : 0.0);
}

class Integral {
public:
    Integral(const NormalScore& target, std::span<const NormalScore> rivals, std::int64_t most_slots)
        : target_(target),
          rivals_(rivals),
          most_(most_slots),
          p_(rivals.size()),
          sum_(static_cast<std::size_t>(most_slots) + 1, 0.0) {}

    std::vector<double> hits() {
        if (target_.sd == 0.0) return at(0.0);
        // z from -reach to reach, where the normal density is below 1e-11 of all.
        for (int i = 0; i <= first_nodes; ++i) add(-reach + 2.0 * reach * i / first_nodes);
        std::vector<double> mean = weighted_mean();
        for (int nodes = first_nodes; nodes < last_nodes; nodes *= 2) {
            for (int i = 0; i < nodes; ++i) add(-reach + 2.0 * reach * (i + 0.5) / nodes);
            const std::vector<double> finer = weighted_mean();
            double change = 0.0;
            for (std::size_t k = 0; k < mean.size(); ++k) change = std::max(change, std::abs(finer[k] - mean[k]));
            mean = finer;
            if (change < 1e-6) break;
        }
        return mean;
    }

private:
    static constexpr double reach = 7.0;
    static constexpr int first_nodes = 32;
    static constexpr int last_nodes = 1024;

    /// P(hit | z) for 0 ... most_ slots.
    std::vector<double> at(double z) {
        const double s = target_.mean + target_.sd * z;
        std::transform(rivals_.begin(), rivals_.end(), p_.begin(), [s](const NormalScore& r) { return above(r, s); });
        std::vector<double> hits(static_cast<std::size_t>(most_) + 1, 0.0);
        if (most_ > 0) {
            const std::vector<double> cdf = poisson_binomial_cdf(p_, most_ - 1);
            std::copy(cdf.begin(), cdf.end(), hits.begin() + 1);
        }
        return hits;
    }

    void add(double z) {
        const double density = std::exp(-0.5 * z * z);
        const std::vector<double> hits = at(z);
        for (std::size_t k = 0; k < sum_.size(); ++k) sum_[k] += density * hits[k];
        weight_ += density;
    }

    std::vector<double> weighted_mean() const {
        std::vector<double> mean = sum_;
        for (double& value : mean) value /= weight_;
        return mean;
    }

    NormalScore target_;
    std::span<const NormalScore> rivals_;
    std::int64_t most_;
    std::vector<double> p_;
    std::vector<double> sum_;  // over the nodes so far: density times P(hit | z)
    double weight_ = 0.0;
};

}  // namespace

std::vector<double> hits_among_rivals(const NormalScore& target, std::span<const NormalScore> rivals,
                                      std::int64_t most_slots) {
    check(target);
    std::for_each(rivals.begin(), rivals.end(), check);
    if (most_slots < 0) {
        throw InputError(fmt::format("slots = {}: must be at least 0; nearest valid value is 0", most_slots));
    }
    return Integral(target, rivals, most_slots).hits();
}

}  // namespace mobalab::analysis
