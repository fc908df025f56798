#include <algorithm>
#include <array>
#include <cmath>

#include "sim/samplers/block_ranks.h"
#include "sim/samplers/sampler.h"
#include "sim/streams/transforms.h"

namespace mobalab::sim {
namespace {

/// The unit-norm model by affinities alone. Token t of a trial has affinity number t of its stream.
class AffinitySampler final : public Sampler {
public:
    explicit AffinitySampler(const SamplerInput& input)
        : key_(input.key),
          loops_(*input.loops),
          shape_{
              static_cast<std::uint64_t>(input.point.block_size), static_cast<std::uint64_t>(input.point.cluster_size),
              std::llround(input.point.delta_mu_eff() * static_cast<double>(kAffinityScale)), input.point.candidates},
          exponent_(affinity_exponent(input.point.head_dim)) {}

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            count_rank(histogram, rank(trial));
        }
    }

    double trial_cost() const override {
        return 2.0 * static_cast<double>(shape_.candidates) * static_cast<double>(shape_.block_size) + 64.0;
    }

private:
    static constexpr std::size_t kBuffer = 16 * kAffinityTile;

    std::uint64_t rank(std::uint64_t trial) const {
        std::array<std::int32_t, kBuffer> affinities;
        BlockRanks ranks(shape_, loops_, key_, trial);
        const std::uint64_t tokens = static_cast<std::uint64_t>(shape_.candidates) * shape_.block_size;
        for (std::uint64_t begin = 0; begin < tokens; begin += kBuffer) {
            const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(kBuffer, tokens - begin));
            const std::size_t whole_tiles = (count + kSmallAffinityTile - 1) / kSmallAffinityTile * kSmallAffinityTile;
            loops_.fill_affinities(affinities.data(), whole_tiles, key_, trial, begin, exponent_);
            ranks.add(affinities.data(), count);
        }
        return ranks.rank();
    }

    PhiloxKey key_;
    const HotLoops& loops_;
    BlockRanks::Shape shape_;
    float exponent_;
};

}  // namespace

std::unique_ptr<Sampler> make_affinity_sampler(const SamplerInput& input) {
    check_block_sum(input.point);
    check_draws(input.point,
                static_cast<double>(input.point.candidates) * static_cast<double>(input.point.block_size) / 2,
                static_cast<double>(input.point.key_correlation > 0.0 ? kCommonDraw : kIndexDraw));
    if (input.point.scorer != analysis::Scorer{}) {
        return make_sub_block_sampler(input, Method::affinity);
    }
    if (!analysis::is_plain(input.point)) {
        return make_token_score_sampler(input, Method::affinity);
    }
    return std::make_unique<AffinitySampler>(input);
}

}  // namespace mobalab::sim
