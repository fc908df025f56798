#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "sim/samplers/cluster_slots.h"
#include "sim/samplers/sampler.h"
#include "sim/samplers/token_sources.h"

namespace mobalab::sim {
namespace {

/// What the point says of its blocks.
struct Shape {
    std::uint64_t block_size;
    std::uint64_t sub_blocks;
    std::int64_t candidates;
    ClusterSlots cluster;

    std::size_t width() const { return static_cast<std::size_t>(block_size / sub_blocks); }
};

/// Turns a trial's affinities, taken in token order, into the rank of the signal block: a block's score is the largest
/// of its sub-blocks' sums, in steps of 2^-30 (the common factor r / B changes no comparison).
class SubBlockRank {
public:
    SubBlockRank(const Shape& shape, const SamplerInput& input, std::uint64_t trial, std::vector<std::int32_t>& signal)
        : shape_(shape), input_(input), trial_(trial), signal_block_(signal), open_(shape.width()) {
        signal_block_.clear();
    }

    void add(const std::int32_t* affinities, std::size_t count) {
        const auto missing = static_cast<std::size_t>(shape_.block_size) - signal_block_.size();
        const std::size_t of_signal = std::min(missing, count);
        signal_block_.insert(signal_block_.end(), affinities, affinities + of_signal);
        if (of_signal > 0 && of_signal == missing) {
            shape_.cluster.place(signal_block_, input_.key, trial_);
            add_keys(signal_block_.data(), signal_block_.size());
        }
        add_keys(affinities + of_signal, count - of_signal);
    }

    std::uint64_t rank() const { return above_; }

private:
    static constexpr std::size_t kSums = 128;
    static constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();

    void add_keys(const std::int32_t* affinities, std::size_t count) {
        for (std::size_t at = 0; at < count;) {
            const std::size_t whole = (count - at) / shape_.width();
            if (open_ == shape_.width() && whole > 0) {
                std::array<std::int64_t, kSums> sums;
                const std::size_t now = std::min(whole, kSums);
                input_.loops->sum_blocks(sums.data(), affinities + at, shape_.width(), now);
                std::for_each_n(sums.begin(), now, [this](std::int64_t sum) { close_sub_block(sum); });
                at += now * shape_.width();
                continue;
            }
            const std::size_t run = std::min(open_, count - at);
            sum_ += input_.loops->sum_affinities(affinities + at, run);
            at += run;
            open_ -= run;
            if (open_ == 0) {
                close_sub_block(sum_);
                sum_ = 0;
                open_ = shape_.width();
            }
        }
    }

    void close_sub_block(std::int64_t sum) {
        best_ = std::max(best_, sum);
        if (++closed_ < shape_.sub_blocks) {
            return;
        }
        if (block_ == 0) {
            signal_ = best_;
        } else if (best_ >= signal_) {
            above_ += best_ > signal_ || block_ > signal_block_index(input_.key, trial_, shape_.candidates) ? 1U : 0U;
        }
        ++block_;
        closed_ = 0;
        best_ = kLeast;
    }

    const Shape& shape_;
    const SamplerInput& input_;
    std::uint64_t trial_;
    std::vector<std::int32_t>& signal_block_;
    std::size_t open_;            ///< keys the current sub-block still lacks
    std::int64_t sum_ = 0;        ///< of its others
    std::uint64_t closed_ = 0;    ///< sub-blocks of the current block that are summed
    std::int64_t best_ = kLeast;  ///< of them
    std::uint64_t block_ = 0;
    std::int64_t signal_ = 0;
    std::uint64_t above_ = 0;
};

/// Scorers that are the best of a block's sub-blocks, each scored by the mean of its keys, from affinities alone.
template <class Tokens>
class SubBlockSampler final : public Sampler {
public:
    explicit SubBlockSampler(const SamplerInput& input)
        : input_(input),
          shape_{static_cast<std::uint64_t>(input.point.block_size),
                 static_cast<std::uint64_t>(input.point.scorer.sub_blocks), input.point.candidates,
                 ClusterSlots(input.point)} {}

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        Tokens tokens(input_);
        std::vector<std::int32_t> signal;
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            count_rank(histogram, rank(trial, tokens, signal));
        }
    }

    double trial_cost() const override {
        const auto candidates = static_cast<double>(shape_.candidates);
        return candidates * (Tokens::token_cost(input_.point) * static_cast<double>(shape_.block_size) +
                             2.0 * static_cast<double>(shape_.sub_blocks)) +
               static_cast<double>(shape_.block_size) + 16.0 * static_cast<double>(shape_.cluster.cluster_size) + 64.0;
    }

private:
    std::uint64_t rank(std::uint64_t trial, Tokens& tokens, std::vector<std::int32_t>& signal) const {
        std::array<std::int32_t, Tokens::kBuffer> affinities;
        tokens.begin(trial);
        SubBlockRank rank(shape_, input_, trial, signal);
        const std::uint64_t count = static_cast<std::uint64_t>(shape_.candidates) * shape_.block_size;
        for (std::uint64_t begin = 0; begin < count; begin += affinities.size()) {
            const auto now = static_cast<std::size_t>(std::min<std::uint64_t>(affinities.size(), count - begin));
            tokens.fill(affinities.data(), now, begin);
            rank.add(affinities.data(), now);
        }
        return rank.rank();
    }

    SamplerInput input_;
    Shape shape_;
};

}  // namespace

std::unique_ptr<Sampler> make_sub_block_sampler(const SamplerInput& input, Method method) {
    check_sub_blocks(input.point);
    if (method == Method::vector) {
        return std::make_unique<SubBlockSampler<VectorTokens>>(input);
    }
    return std::make_unique<SubBlockSampler<AffinityTokens>>(input);
}

}  // namespace mobalab::sim
