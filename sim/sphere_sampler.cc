#include <fmt/format.h>

#include <array>
#include <cmath>

#include "sim/affinity.h"
#include "sim/sampler.h"
#include "sim/transforms.h"

namespace mobalab::sim {
namespace {

/// Block sums in steps of 2^-30 stay below 2^63 up to here.
constexpr std::int64_t kMaxBlockSize = std::int64_t{1} << 32U;

/// Sum of a run of affinities. The fixed inner width is what lets the compiler keep short runs in vector registers.
std::int64_t sum_of(const std::int32_t* affinities, std::size_t count) {
    constexpr std::size_t kWidth = 16;
    std::int64_t total = 0;
    for (; count >= kWidth; count -= kWidth, affinities += kWidth) {
        for (std::size_t i = 0; i < kWidth; ++i) {
            total += affinities[i];
        }
    }
    for (std::size_t i = 0; i < count; ++i) {
        total += affinities[i];
    }
    return total;
}

/// The unit-norm model by affinities alone. Token t of a trial has affinity number t of its stream; tokens [0, B) are
/// the signal block, of which the first m carry the fixed affinities of the cluster instead; every following B tokens
/// are a noise block. Scores are sums in steps of 2^-30 (the common factor 1/B changes no comparison).
class SphereSampler final : public Sampler {
public:
    SphereSampler(const analysis::RoutingPoint& point, PhiloxKey key)
        : key_(key),
          candidates_(point.candidates),
          block_size_(static_cast<std::size_t>(point.block_size)),
          cluster_size_(static_cast<std::size_t>(point.cluster_size)),
          exponent_(affinity_exponent(point.head_dim)),
          cluster_sum_(std::llround(point.delta_mu_eff() * static_cast<double>(kAffinityScale))) {}

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            count_rank(histogram, rank(trial));
        }
    }

    double trial_cost() const override {
        return 2.0 * static_cast<double>(candidates_) * static_cast<double>(block_size_) + 64.0;
    }

private:
    static constexpr std::size_t kBuffer = 16 * kAffinityTile;

    std::uint64_t rank(std::uint64_t trial) const {
        std::array<std::int32_t, kBuffer> affinities;
        const std::uint64_t tokens = static_cast<std::uint64_t>(candidates_) * block_size_;
        std::int64_t signal = 0;
        std::int64_t sum = 0;
        std::size_t open = block_size_;  // tokens the current block still lacks
        std::uint64_t block = 0;
        std::uint64_t above = 0;
        for (std::uint64_t begin = 0; begin < tokens; begin += kBuffer) {
            const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(kBuffer, tokens - begin));
            const std::size_t whole_tiles = (count + kSmallAffinityTile - 1) / kSmallAffinityTile * kSmallAffinityTile;
            fill_affinities(affinities.data(), whole_tiles, key_, trial, begin, exponent_);
            if (begin < cluster_size_) {  // the cluster's tokens count through cluster_sum_
                const std::uint64_t fixed = std::min<std::uint64_t>(count, cluster_size_ - begin);
                std::fill_n(affinities.begin(), fixed, 0);
            }
            for (std::size_t at = 0; at < count;) {
                const std::size_t run = std::min(open, count - at);
                sum += sum_of(affinities.data() + at, run);
                at += run;
                open -= run;
                if (open > 0) {
                    continue;
                }
                if (block == 0) {
                    signal = sum + cluster_sum_;
                } else if (sum >= signal) {
                    above += sum > signal || block > signal_block_index(key_, trial, candidates_) ? 1U : 0U;
                }
                ++block;
                sum = 0;
                open = block_size_;
            }
        }
        return above;
    }

    PhiloxKey key_;
    std::int64_t candidates_;
    std::size_t block_size_;
    std::size_t cluster_size_;
    float exponent_;
    std::int64_t cluster_sum_;
};

}  // namespace

std::unique_ptr<Sampler> make_sphere_sampler(const analysis::RoutingPoint& point, PhiloxKey key) {
    if (point.block_size > kMaxBlockSize) {
        throw analysis::InputError(fmt::format(
            "block_size = {}: model sphere sums one number a key and takes at most {}; nearest valid value is {}",
            point.block_size, kMaxBlockSize, kMaxBlockSize));
    }
    check_draws(point, static_cast<double>(point.candidates) * static_cast<double>(point.block_size) / 2);
    return std::make_unique<SphereSampler>(point, key);
}

}  // namespace mobalab::sim
