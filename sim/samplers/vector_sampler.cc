#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "sim/samplers/block_ranks.h"
#include "sim/samplers/sampler.h"
#include "sim/samplers/scored_vector_sampler.h"
#include "sim/samplers/text_sampler.h"
#include "sim/streams/transforms.h"

namespace mobalab::sim {
namespace {

/// The unit-norm model with real vectors: a query and keys of head_dim normals each, and q . k / |k| for every key. The
/// needle k* = mu q + sqrt(1 - mu^2) u has q . k* = mu whatever its u, and so has the rest of the cluster; a block's
/// score q . mean(keys) is the mean of its affinities, summed as integers.
class VectorSampler final : public Sampler {
public:
    explicit VectorSampler(const SamplerInput& input)
        : key_(input.key),
          loops_(*input.loops),
          head_dim_(input.point.head_dim),
          shape_{
              static_cast<std::uint64_t>(input.point.block_size), static_cast<std::uint64_t>(input.point.cluster_size),
              std::llround(input.point.delta_mu_eff() * static_cast<double>(kAffinityScale)), input.point.candidates} {}

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        std::vector<QuadOperands> quads(static_cast<std::size_t>(quads_of(head_dim_)));
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            make_quad_operands(quads, key_, trial, head_dim_);
            count_rank(histogram, rank(trial, quads.data()));
        }
    }

    double trial_cost() const override {
        return 0.5 * static_cast<double>(shape_.candidates) * static_cast<double>(shape_.block_size) *
               static_cast<double>(4 * quads_of(head_dim_));
    }

private:
    static constexpr std::size_t kBuffer = 1536;  // whole groups of every instruction set's registers

    std::uint64_t rank(std::uint64_t trial, const QuadOperands* quads) const {
        std::array<std::int32_t, kBuffer> affinities;
        BlockRanks ranks(shape_, loops_, key_, trial);
        const std::uint64_t tokens = static_cast<std::uint64_t>(shape_.candidates) * shape_.block_size;
        for (std::uint64_t begin = 0; begin < tokens; begin += kBuffer) {
            const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(kBuffer, tokens - begin));
            loops_.vector_affinities(affinities.data(), count, key_, trial, 1 + begin, quads, head_dim_);
            ranks.add(affinities.data(), count);
        }
        return ranks.rank();
    }

    PhiloxKey key_;
    const HotLoops& loops_;
    std::int64_t head_dim_;
    BlockRanks::Shape shape_;
};

}  // namespace

std::unique_ptr<Sampler> make_vector_sampler(const SamplerInput& input) {
    const analysis::RoutingPoint& point = input.point;
    if (analysis::definition_of(point.model).text_keys) {
        return make_text_sampler(input);
    }
    const bool correlated = point.key_correlation > 0.0;
    const double rows = static_cast<double>(point.block_size) + (correlated ? 1.0 : 0.0);
    check_draws(point, static_cast<double>(point.candidates) * rows + 1, 0x1p32);
    const analysis::ScorerDefinition& scorer = analysis::definition_of(point.scorer.kind);
    if (!scorer.knows_affinities_only()) {
        return make_scored_vector_sampler(input, scorer);
    }
    if (point.head_dim > kMaxVectorHeadDim) {
        throw analysis::InputError(
            fmt::format("head_dim = {}: method vector takes at most {}; nearest valid value is "
                        "{}, or use method affinity",
                        point.head_dim, kMaxVectorHeadDim, kMaxVectorHeadDim));
    }
    check_block_sum(point);
    if (point.scorer != analysis::Scorer{}) {
        return make_sub_block_sampler(input, Method::vector);
    }
    if (correlated || point.key_conv > 0) {
        return make_key_tile_sampler(input);
    }
    if (point.needles > 1) {
        return make_token_score_sampler(input, Method::vector);
    }
    return std::make_unique<VectorSampler>(input);
}

}  // namespace mobalab::sim
