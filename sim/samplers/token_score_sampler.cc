#include <algorithm>
#include <array>
#include <vector>

#include "sim/samplers/block_ranks.h"
#include "sim/samplers/needles.h"
#include "sim/samplers/sampler.h"
#include "sim/samplers/token_scores.h"
#include "sim/streams/transforms.h"

namespace mobalab::sim {
namespace {

/// Affinities by their law: of d dimensions, or of d - 1 where the keys of a block are correlated; the common
/// components' own ones are tiles from draw kCommonDraw on.
class AffinityTokens {
public:
    explicit AffinityTokens(const SamplerInput& input)
        : input_(input),
          correlated_(input.point.key_correlation > 0.0),
          exponent_(affinity_exponent(input.point.head_dim)),
          own_exponent_(affinity_exponent(input.point.head_dim - (correlated_ ? 1 : 0))) {}

    static constexpr std::size_t kBuffer = 16 * kAffinityTile;

    void begin(std::uint64_t trial, TokenScores& scores) {
        trial_ = trial;
        if (correlated_) {
            std::vector<std::int32_t>& common = scores.common();
            common.resize(whole_tiles(static_cast<std::size_t>(input_.point.candidates)));
            input_.loops->fill_affinities(common.data(), common.size(), input_.key, trial, 2 * kCommonDraw, exponent_);
        }
    }

    void fill(std::int32_t* out, std::size_t count, std::uint64_t first) const {
        input_.loops->fill_affinities(out, whole_tiles(count), input_.key, trial_, first, own_exponent_);
    }

    static double token_cost(const analysis::RoutingPoint&) { return 2.0; }

private:
    static std::size_t whole_tiles(std::size_t count) {
        return (count + kSmallAffinityTile - 1) / kSmallAffinityTile * kSmallAffinityTile;
    }

    const SamplerInput& input_;
    bool correlated_;
    float exponent_;
    float own_exponent_;
    std::uint64_t trial_ = 0;
};

/// Affinities of real vectors, where they are independent.
class VectorTokens {
public:
    explicit VectorTokens(const SamplerInput& input)
        : input_(input), quads_(static_cast<std::size_t>(quads_of(input.point.head_dim))) {}

    static constexpr std::size_t kBuffer = 1536;  // whole groups of every instruction set's registers

    void begin(std::uint64_t trial, TokenScores&) {
        trial_ = trial;
        make_quad_operands(quads_, input_.key, trial, input_.point.head_dim);
    }

    void fill(std::int32_t* out, std::size_t count, std::uint64_t first) const {
        input_.loops->vector_affinities(out, count, input_.key, trial_, 1 + first, quads_.data(),
                                        input_.point.head_dim);
    }

    static double token_cost(const analysis::RoutingPoint& point) {
        return 2.0 * static_cast<double>(quads_of(point.head_dim));
    }

private:
    const SamplerInput& input_;
    std::vector<QuadOperands> quads_;
    std::uint64_t trial_ = 0;
};

/// Points beyond the paper's setting by affinities token by token (sim/samplers/token_scores.h).
template <class Tokens>
class TokenScoreSampler final : public Sampler {
public:
    explicit TokenScoreSampler(const SamplerInput& input) : input_(input), shape_(input.point) {}

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        Tokens tokens(input_);
        TokenScores scores(shape_, *input_.loops);
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            count_rank(histogram, rank(trial, tokens, scores));
        }
    }

    double trial_cost() const override {
        return Tokens::token_cost(input_.point) * static_cast<double>(shape_.candidates) *
                   static_cast<double>(shape_.block_size) +
               4.0 * static_cast<double>(shape_.candidates) + 64.0;
    }

private:
    std::uint64_t rank(std::uint64_t trial, Tokens& tokens, TokenScores& scores) const {
        std::array<std::int32_t, Tokens::kBuffer> affinities;
        const NeedlePlaces places(input_.point, input_.key, trial);
        scores.begin(places);
        tokens.begin(trial, scores);
        const std::uint64_t count = static_cast<std::uint64_t>(shape_.candidates) * shape_.block_size;
        for (std::uint64_t begin = 0; begin < count; begin += affinities.size()) {
            const auto now = static_cast<std::size_t>(std::min<std::uint64_t>(affinities.size(), count - begin));
            tokens.fill(affinities.data(), now, begin);
            scores.add(affinities.data(), now);
        }
        return goal_rank(scores.finish(places), input_.point.goal, places);
    }

    SamplerInput input_;
    TokenScores::Shape shape_;
};

}  // namespace

std::unique_ptr<Sampler> make_token_score_sampler(const SamplerInput& input, Method method) {
    if (method == Method::vector) {
        return std::make_unique<TokenScoreSampler<VectorTokens>>(input);
    }
    return std::make_unique<TokenScoreSampler<AffinityTokens>>(input);
}

}  // namespace mobalab::sim
