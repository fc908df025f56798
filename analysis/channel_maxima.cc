#include "analysis/channel_maxima.h"

#include <algorithm>
#include <array>
#include <boost/math/constants/constants.hpp>
#include <boost/math/quadrature/gauss.hpp>
#include <cmath>
#include <cstddef>
#include <vector>

#include "analysis/affinity_sum_table.h"
#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

constexpr std::size_t kinds = 3;  ///< noise key, needle, another token of the cluster

/// `count` keys of one kind in one channel, in units of 1/sqrt(d).
struct Keys {
    std::int64_t count = 0;
    double mean = 0.0;
    double sd = 1.0;
    const SingleAffinity* unit = nullptr;  ///< the exact law of a noise key's channel; none: normal
    double root_d = 0.0;

    double log_below(double x) const {
        if (unit != nullptr) return unit->at_gaps(1.0 + x / root_d, 1.0 - x / root_d).lower;
        if (sd > 0.0) return log_normal_upper(-(x - mean) / sd);
        return x < mean ? -HUGE_VAL : 0.0;
    }
};

/// Of the largest of all keys in a channel.
struct Largest {
    double mean = 0.0;
    double square = 0.0;
    std::array<double, kinds> slope{};      ///< dE/dy of one key of the kind
    std::array<double, kinds> curvature{};  ///< A of the header

    double variance() const { return std::max(0.0, square - mean * mean); }
};

using Rule = boost::math::quadrature::gauss<double, 10>;

/// Calls visit(x, weight) at Gauss's places in (low, high).
template <typename GaussRule, typename Visit>
void for_each_place(double low, double high, const Visit& visit) {
    const double half = 0.5 * (high - low);
    const auto& places = GaussRule::abscissa();
    for (std::size_t i = 0; i < places.size(); ++i) {
        visit(low + half * (1.0 - places[i]), half * GaussRule::weights()[i]);
        visit(low + half * (1.0 + places[i]), half * GaussRule::weights()[i]);
    }
}

/// Between places as dense as the laws ask for. E max = int_0^inf P(> x) dx - int_-inf^0 P(<= x) dx, the square
/// likewise with 2 x; dE/dy is the chance that the key is the largest, and A the integral of z phi(z) times the chance
/// that all others are below.
Largest largest_of(const std::array<Keys, kinds>& keys) {
    constexpr double reach = 9.0;  // of a standard normal: 1e-19
    std::vector<double> cuts{0.0};
    for (const Keys& one : keys) {
        if (one.count == 0) continue;
        for (double z = -reach; z <= reach; z += 1.0) cuts.push_back(one.mean + z * one.sd);
    }
    std::sort(cuts.begin(), cuts.end());
    Largest result;
    const auto add = [&](double x, double weight) {
        std::array<double, kinds> logs{};
        double log_below = 0.0;
        for (std::size_t i = 0; i < kinds; ++i) {
            if (keys[i].count == 0) continue;
            logs[i] = keys[i].log_below(x);
            log_below += static_cast<double>(keys[i].count) * logs[i];
        }
        const double tail = x >= 0.0 ? -std::expm1(log_below) : -std::exp(log_below);
        result.mean += weight * tail;
        result.square += 2.0 * weight * x * tail;
        for (std::size_t i = 0; i < kinds; ++i) {
            if (keys[i].count == 0 || !(keys[i].sd > 0.0) || !std::isfinite(logs[i])) continue;
            const double z = (x - keys[i].mean) / keys[i].sd;
            const double density = std::exp(log_below - logs[i] + log_normal_density(z));
            result.slope[i] += weight * density / keys[i].sd;
            result.curvature[i] += weight * density * z;
        }
    };
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
        if (cuts[i] < cuts[i + 1]) for_each_place<Rule>(cuts[i], cuts[i + 1], add);
    }
    return result;
}

/// The laws of channels at one point.
class Channels {
public:
    explicit Channels(const RoutingPoint& point)
        : point_(point), d_(static_cast<double>(point.head_dim)), one_(point.head_dim) {}

    Largest noise() const { return largest_of({noise_keys(point_.block_size), Keys{}, Keys{}}); }

    Largest signal(double t) const {
        return largest_of({noise_keys(point_.block_size - point_.cluster_size), token(1, point_.mu_signal, t),
                           token(point_.cluster_size - 1, point_.mu_cluster, t)});
    }

private:
    Keys noise_keys(std::int64_t count) const { return {count, 0.0, 1.0, &one_, std::sqrt(d_)}; }

    Keys token(std::int64_t count, double mu, double t) const {
        return {count, mu * t * std::sqrt(d_),
                std::sqrt(std::max(0.0, (1.0 - mu * mu) * (1.0 - t * t) * d_ / (d_ - 1.0)))};
    }

    const RoutingPoint& point_;
    double d_;
    SingleAffinity one_;
};

/// Means over t of one block's channels.
struct ChannelMeans {
    double shift = 0.0;                     ///< E[w E(M_t | t)]
    double variance = 0.0;                  ///< E[w^2 Var]
    std::array<double, kinds> slope{};      ///< E[w^2 dE/dy]
    std::array<double, kinds> curvature{};  ///< E[w A]

    void add(const Largest& at, double w, double weight) {
        shift += weight * w * at.mean;
        variance += weight * w * w * at.variance();
        for (std::size_t i = 0; i < kinds; ++i) {
            slope[i] += weight * w * w * at.slope[i];
            curvature[i] += weight * w * at.curvature[i];
        }
    }
    void divide(double mass) {
        shift /= mass;
        variance /= mass;
        for (double& mean : slope) mean /= mass;
        for (double& mean : curvature) mean /= mass;
    }
};

/// d times the variance of the sum over channels.
double sum_variance(const RoutingPoint& point, const ChannelMeans& means,
                    const std::array<std::int64_t, kinds>& counts) {
    const auto d = static_cast<double>(point.head_dim);
    const std::array<double, kinds> mus{1.0, point.mu_signal, point.mu_cluster};  // noise keys are not fixed along q
    double covariance = 0.0;
    for (std::size_t i = 0; i < kinds; ++i) {
        const double along_q = i == 0 ? 0.0 : (1.0 - mus[i] * mus[i]) * d / (d - 1.0);
        covariance -= static_cast<double>(counts[i]) * (along_q * means.slope[i] * means.slope[i] +
                                                        means.curvature[i] * means.curvature[i] / (2.0 * (d + 2.0)));
    }
    return d * means.variance + d * (d - 1.0) * covariance;
}

}  // namespace

NormalSignal channel_maxima_signal(const RoutingPoint& point, ChannelScore score) {
    const auto d = static_cast<double>(point.head_dim);
    const Channels channels(point);
    const Largest noise = channels.noise();
    ChannelMeans noise_means;
    ChannelMeans signal_means;
    double mass = 0.0;
    // t = sin(angle): the density of the angle is ~ cos^(d-2).
    constexpr double reach = 8.5;
    const double end = std::min(0.5 * boost::math::constants::pi<double>(), reach / std::sqrt(d));
    for_each_place<boost::math::quadrature::gauss<double, 30>>(0.0, end, [&](double angle, double step) {
        const double t = std::sin(angle);
        const double weight = step * std::exp((d - 2.0) * std::log(std::cos(angle)));
        const auto add = [&](double w) {
            mass += weight;
            noise_means.add(noise, w, weight);
            signal_means.add(channels.signal(w), w, weight);
        };
        add(t);
        if (score == ChannelScore::maximum) add(-t);  // signed: a channel of -t is one of t turned round
    });
    for (ChannelMeans* means : {&noise_means, &signal_means}) means->divide(mass);
    const double noise_variance = sum_variance(point, noise_means, {point.block_size, 0, 0});
    const double signal_variance =
        sum_variance(point, signal_means, {point.block_size - point.cluster_size, 1, point.cluster_size - 1});
    return {d * (signal_means.shift - noise_means.shift) / std::sqrt(noise_variance),
            std::sqrt(std::max(0.0, signal_variance) / noise_variance)};
}

}  // namespace mobalab::analysis
