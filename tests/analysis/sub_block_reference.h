#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <numbers>
#include <set>
#include <vector>

#include "analysis/affinity_sum.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {

/// P(hit) and P(miss) of scorer submean by another way than analysis/sub_block_scores.h: the other integral (over the
/// signal's score, with densities, and a term for every fixed score), every way in which a cluster falls into the
/// sub-blocks by itself, binomial tails as plain sums, tanh-sinh panels about one standard deviation long, and long
/// double throughout but for the laws of sums of affinities (which golden_test.cc holds against 30 digits).
class SubBlockReference {
public:
    struct Answer {
        long double hit = 0.0L;
        long double miss = 0.0L;
    };

    explicit SubBlockReference(const RoutingPoint& point)
        : point_(point), keys_(point.block_size / point.scorer.sub_blocks), r_(point.scorer.sub_blocks) {}

    Answer answer() {
        collect_ways(std::vector<std::int64_t>(), point_.cluster_size - 1);
        Answer total;
        for (const auto& [way, weight] : ways_) add_fixed(way, weight, total);
        const std::vector<long double> cuts = all_cuts();
        for (std::size_t i = 0; i + 1 < cuts.size(); ++i) add_panel(cuts[i], cuts[i + 1], total);
        return total;
    }

private:
    /// A sub-block: its free keys, and the sum of its fixed affinities.
    struct SubBlock {
        std::int64_t free_keys;
        double fixed;
        friend auto operator<=>(const SubBlock&, const SubBlock&) = default;
    };
    using Way = std::vector<SubBlock>;

    struct Place {
        long double low, above_low, high, below_high;
    };
    struct Law {
        long double upper, lower, density;
    };

    static long double choose(std::int64_t n, std::int64_t k) {
        long double result = 1.0L;
        for (std::int64_t i = 1; i <= k; ++i) {
            result *= static_cast<long double>(n - k + i) / static_cast<long double>(i);
        }
        return k > n ? 0.0L : result;
    }

    /// Every list of how many other tokens each sub-block has, the needle's first.
    void collect_ways(std::vector<std::int64_t> counts, std::int64_t left) {
        const auto number = static_cast<std::int64_t>(counts.size());
        if (number == r_) {
            if (left == 0) add_way(counts);
            return;
        }
        // Those without the needle are alike: only ascending lists, counted with their arrangements.
        const std::int64_t least = number >= 2 ? counts.back() : 0;
        const std::int64_t most = std::min(left, number == 0 ? keys_ - 1 : keys_);
        for (std::int64_t a = least; a <= most; ++a) {
            counts.push_back(a);
            collect_ways(counts, left - a);
            counts.pop_back();
        }
    }

    void add_way(const std::vector<std::int64_t>& counts) {
        long double weight = choose(keys_ - 1, counts[0]) / choose(point_.block_size - 1, point_.cluster_size - 1);
        Way way{{keys_ - 1 - counts[0], point_.mu_signal + static_cast<double>(counts[0]) * point_.mu_cluster}};
        std::map<std::int64_t, std::int64_t> alike;
        std::int64_t placed = 0;
        for (std::size_t i = 1; i < counts.size(); ++i) {
            way.push_back({keys_ - counts[i], static_cast<double>(counts[i]) * point_.mu_cluster});
            weight *= choose(keys_, counts[i]);
            weight *= static_cast<long double>(++placed) / static_cast<long double>(++alike[counts[i]]);
        }
        ways_.emplace_back(way, weight);
    }

    Law law(const SubBlock& block, const Place& at) const {
        const auto free_keys = static_cast<long double>(block.free_keys);
        const long double low = block.fixed - free_keys;
        const long double high = block.fixed + free_keys;
        if (block.free_keys == 0) return at.low >= high ? Law{0.0L, 1.0L, 0.0L} : Law{1.0L, 0.0L, 0.0L};
        const long double lower_gap = (at.low - low) + at.above_low;
        const long double upper_gap = (high - at.high) + at.below_high;
        if (lower_gap <= 0.0L) return {1.0L, 0.0L, 0.0L};
        if (upper_gap <= 0.0L) return {0.0L, 1.0L, 0.0L};
        // Ends of smooth laws are reached nowhere that matters.
        if (std::min(lower_gap, upper_gap) < 1e-12L * free_keys &&
            smoothness(point_.head_dim, block.free_keys) >= 12.0) {
            return lower_gap < upper_gap ? Law{1.0L, 0.0L, 0.0L} : Law{0.0L, 1.0L, 0.0L};
        }
        const LogLaw logs = affinity_sum(point_.head_dim, block.free_keys)
                                ->at_gaps(static_cast<double>(lower_gap), static_cast<double>(upper_gap));
        return {std::exp(static_cast<long double>(logs.upper)), std::exp(static_cast<long double>(logs.lower)),
                std::exp(static_cast<long double>(logs.density))};
    }

    /// P(miss) and P(hit) where the signal's score is at a place.
    Answer given(const Place& at) const {
        const Law one = law({keys_, 0.0}, at);
        const auto r = static_cast<long double>(r_);
        const long double q = std::pow(one.lower, r);
        const long double p = one.upper < 0.5L ? -std::expm1(r * std::log1p(-one.upper)) : 1.0L - q;
        Answer answer;
        const std::int64_t n = point_.noise_blocks();
        for (std::int64_t i = 0; i <= n; ++i) {
            if ((p == 0.0L && i > 0) || (q == 0.0L && i < n)) continue;
            const auto ones = static_cast<long double>(i);
            const auto others = static_cast<long double>(n - i);
            const long double log_q = one.lower > 0.5L ? r * std::log1p(-one.upper) : r * std::log(one.lower);
            const long double term = std::exp(std::log(choose(n, std::min(i, n - i))) +
                                              (i > 0 ? ones * std::log(p) : 0.0L) + (i < n ? others * log_q : 0.0L));
            (i < point_.routed() ? answer.hit : answer.miss) += term;
        }
        return answer;
    }

    /// A way with fixed sub-blocks has the largest of their scores where all others are below.
    void add_fixed(const Way& way, long double weight, Answer& total) const {
        const double fixed = fixed_score(way);
        if (fixed == -HUGE_VAL) return;
        const Place at{fixed, 0.0L, fixed, 0.0L};
        for (const SubBlock& block : way) {
            if (block.free_keys > 0) weight *= law(block, at).lower;
        }
        const Answer one = given(at);
        total.hit += weight * one.hit;
        total.miss += weight * one.miss;
    }

    static double fixed_score(const Way& way) {
        double fixed = -HUGE_VAL;
        for (const SubBlock& block : way) {
            if (block.free_keys == 0) fixed = std::max(fixed, block.fixed);
        }
        return fixed;
    }

    std::set<SubBlock> sub_blocks() const {
        std::set<SubBlock> all{{keys_, 0.0}};
        for (const auto& [way, weight] : ways_) all.insert(way.begin(), way.end());
        return all;
    }

    std::vector<long double> all_cuts() const {
        std::set<long double> cuts;
        for (const SubBlock& block : sub_blocks()) {
            const auto free_keys = static_cast<long double>(block.free_keys);
            cuts.insert({block.fixed - free_keys, block.fixed + free_keys});
            if (block.free_keys == 0) continue;
            for (const double knot : affinity_sum(point_.head_dim, block.free_keys)->knots()) {
                cuts.insert(block.fixed + knot);
            }
            const long double sd = std::sqrt(free_keys / static_cast<long double>(point_.head_dim));
            for (int i = -24; i <= 24; ++i) {
                const long double cut = block.fixed + i * sd;
                if (std::abs(i) * sd < free_keys) cuts.insert(cut);
            }
        }
        return {cuts.begin(), cuts.end()};
    }

    /// Adds the integral over the signal's score in (low, high).
    void add_panel(long double low, long double high, Answer& total) const {
        constexpr long double step = 1.0L / 24.0L;
        constexpr int reach = 92;  // tanh-sinh: the last share is 1e-31
        const long double width = high - low;
        for (int i = -reach; i <= reach; ++i) {
            const long double t = step * i;
            const long double u = std::numbers::pi_v<long double> * std::sinh(t);
            const Place at{low, width / (1.0L + std::exp(-u)), high, width / (1.0L + std::exp(u))};
            const long double weight =
                step * std::numbers::pi_v<long double> * std::cosh(t) * at.above_low * (at.below_high / width);
            const long double density = signal_density(at);
            if (density == 0.0L) continue;
            const Answer one = given(at);
            total.hit += weight * density * one.hit;
            total.miss += weight * density * one.miss;
        }
    }

    long double signal_density(const Place& at) const {
        std::map<SubBlock, Law> laws;
        for (const SubBlock& block : sub_blocks()) laws[block] = law(block, at);
        long double sum = 0.0L;
        for (const auto& [way, weight] : ways_) {
            if (at.low < fixed_score(way)) continue;
            for (std::size_t i = 0; i < way.size(); ++i) {
                long double product = weight * laws[way[i]].density;
                for (std::size_t j = 0; j < way.size(); ++j) product *= j == i ? 1.0L : laws[way[j]].lower;
                sum += product;
            }
        }
        return sum;
    }

    RoutingPoint point_;
    std::int64_t keys_;
    std::int64_t r_;
    std::vector<std::pair<Way, long double>> ways_;
};

}  // namespace mobalab::analysis
