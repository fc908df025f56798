#include <algorithm>
#include <array>

#include "sim/samplers/needles.h"
#include "sim/samplers/sampler.h"
#include "sim/samplers/token_scores.h"
#include "sim/samplers/token_sources.h"

namespace mobalab::sim {
namespace {

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
        tokens.begin(trial);
        tokens.fill_common(scores.common());
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
