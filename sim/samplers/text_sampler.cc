#include "sim/samplers/text_sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <vector>

#include "analysis/scorer.h"
#include "analysis/text_keys.h"
#include "sim/streams/gaussian.h"

namespace mobalab::sim {
namespace {

using analysis::QueryMap;
using analysis::RoutingPoint;
using analysis::ScorePart;
using analysis::Summary;
using analysis::TextKeys;
using Complex = std::complex<double>;
using Pairs = std::vector<Complex>;

/// Where a trial's query and needle stand, tokens from the beginning; the words of draw kIndexDraw.
struct Places {
    Places(const RoutingPoint& point, PhiloxKey key, std::uint64_t trial)
        : block(static_cast<std::int64_t>(signal_block_index(key, trial, point.candidates))) {
        const auto words = philox_block(key, trial, kIndexDraw);
        const auto in_block = [&](std::uint32_t word) {
            return static_cast<std::int64_t>((std::uint64_t{word} * static_cast<std::uint64_t>(point.block_size)) >>
                                             32U);
        };
        needle = block * point.block_size + in_block(words[1]);
        query = point.candidates * point.block_size + in_block(words[2]);
    }

    std::int64_t block;
    std::int64_t needle;
    std::int64_t query;
};

/// Normals of a trial's tokens: token t has the draws from t * draws on, one normal for each coordinate of the white
/// part, then of each AR(1) process.
class TokenNormals {
public:
    TokenNormals(const TextKeys& keys, PhiloxKey key, std::uint64_t trial)
        : coordinates_(2 * keys.pairs()),
          key_(key),
          trial_(trial),
          normals_((coordinates_ * (1 + keys.decays.size()) + 3) / 4 * 4) {}

    void draw(std::int64_t token) {
        fill_gaussian(normals_, key_, trial_, static_cast<std::uint64_t>(token) * draws());
    }
    std::uint64_t draws() const { return normals_.size() / 4; }
    Complex of(std::size_t process, std::size_t pair) const {
        const float* normal = normals_.data() + process * coordinates_ + 2 * pair;
        return {normal[0], normal[1]};
    }

private:
    std::size_t coordinates_;
    PhiloxKey key_;
    std::uint64_t trial_;
    std::vector<float> normals_;
};

/// The AR(1) processes of all pairs at one token, each of variance 1 a coordinate.
class Chain {
public:
    Chain(const TextKeys& keys, const TokenNormals& normals) : keys_(keys), states_(keys.decays.size()) {
        for (std::size_t j = 0; j < states_.size(); ++j) {
            steps_.push_back(std::sqrt(1.0 - keys.decays[j] * keys.decays[j]));
            for (std::size_t pair = 0; pair < keys.pairs(); ++pair) states_[j].push_back(normals.of(1 + j, pair));
        }
    }

    /// To the next token, on whichever side.
    void step(const TokenNormals& normals) {
        for (std::size_t j = 0; j < states_.size(); ++j) {
            for (std::size_t pair = 0; pair < states_[j].size(); ++pair) {
                states_[j][pair] = keys_.decays[j] * states_[j][pair] + steps_[j] * normals.of(1 + j, pair);
            }
        }
    }

    /// x_t before RoPE.
    void write_centred(const TokenNormals& normals, Pairs& x) const {
        const double white = std::sqrt(keys_.white);
        const double lasting = std::sqrt(keys_.lasting);
        for (std::size_t pair = 0; pair < x.size(); ++pair) {
            Complex sum = white * normals.of(0, pair);
            for (const Pairs& state : states_) sum += lasting * state[pair];
            x[pair] = std::sqrt(keys_.variances[pair]) * sum;
        }
    }

private:
    const TextKeys& keys_;
    std::vector<double> steps_;
    std::vector<Pairs> states_;
};

/// Scores a block from its keys, which come in any order.
class BlockScore {
public:
    BlockScore(const RoutingPoint& point, const Pairs& query, double query_sink)
        : parts_(analysis::definition_of(point.scorer.kind).part),
          part_count_(static_cast<std::size_t>(analysis::definition_of(point.scorer.kind).parts)),
          sub_blocks_(static_cast<std::size_t>(point.scorer.sub_blocks)),
          keys_a_sub_block_(point.block_size / point.scorer.sub_blocks),
          channels_(static_cast<std::size_t>(point.head_dim)) {
        for (const Complex pair : query) query_.insert(query_.end(), {pair.real(), pair.imag()});
        if (query_.size() < channels_) query_.insert(query_.end(), {query_sink, 0.0});
        summaries_.resize(part_count_ * sub_blocks_ * channels_);
        clear();
    }

    /// A key [channels] at a place of its block.
    void add(std::int64_t place, const std::vector<double>& key) {
        for (std::size_t part = 0; part < part_count_; ++part) {
            double* summary = summary_of(part, static_cast<std::size_t>(place / keys_a_sub_block_));
            switch (parts_[part].summary) {
                case Summary::mean:
                    for (std::size_t c = 0; c < channels_; ++c) summary[c] += key[c];
                    break;
                case Summary::maximum:
                    for (std::size_t c = 0; c < channels_; ++c) summary[c] = std::max(summary[c], key[c]);
                    break;
                case Summary::minimum:
                    for (std::size_t c = 0; c < channels_; ++c) summary[c] = std::min(summary[c], key[c]);
                    break;
            }
        }
    }

    /// The score of the block whose keys are complete, which then has none.
    double take() {
        double best = -std::numeric_limits<double>::infinity();
        for (std::size_t sub_block = 0; sub_block < sub_blocks_; ++sub_block) {
            double score = 0.0;
            for (std::size_t part = 0; part < part_count_; ++part) score += part_score(part, sub_block);
            best = std::max(best, score);
        }
        clear();
        return best;
    }

private:
    double* summary_of(std::size_t part, std::size_t sub_block) {
        return summaries_.data() + (part * sub_blocks_ + sub_block) * channels_;
    }

    double part_score(std::size_t part, std::size_t sub_block) {
        const double* summary = summary_of(part, sub_block);
        double sum = 0.0;
        for (std::size_t c = 0; c < channels_; ++c) sum += mapped(parts_[part].map, query_[c]) * summary[c];
        return parts_[part].summary == Summary::mean ? sum / static_cast<double>(keys_a_sub_block_) : sum;
    }

    static double mapped(QueryMap map, double value) {
        switch (map) {
            case QueryMap::positive_part:
                return std::max(value, 0.0);
            case QueryMap::negative_part:
                return std::min(value, 0.0);
            case QueryMap::identity:
                break;
        }
        return value;
    }

    void clear() {
        constexpr double kInfinity = std::numeric_limits<double>::infinity();
        for (std::size_t part = 0; part < part_count_; ++part) {
            const Summary summary = parts_[part].summary;
            const double start = summary == Summary::mean ? 0.0 : summary == Summary::maximum ? -kInfinity : kInfinity;
            std::fill_n(summary_of(part, 0), sub_blocks_ * channels_, start);
        }
    }

    std::array<ScorePart, analysis::most_score_parts> parts_;
    std::size_t part_count_;
    std::size_t sub_blocks_;
    std::int64_t keys_a_sub_block_;
    std::size_t channels_;
    std::vector<double> query_;
    std::vector<double> summaries_;  ///< [part][sub-block][channel]
};

class TextSampler final : public Sampler {
public:
    explicit TextSampler(const SamplerInput& input) : input_(input), keys_(input.point) {
        for (std::int64_t place = 0; place < input.point.block_size; ++place) {
            for (std::size_t pair = 0; pair < keys_.pairs(); ++pair) turns_.push_back(turn(pair, place));
        }
    }

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            count_rank(histogram, Trial(*this, trial).rank());
        }
    }

    double trial_cost() const override {
        const double processes = 1.0 + static_cast<double>(keys_.decays.size());
        return 3.0 * processes * static_cast<double>(input_.point.candidates) *
               static_cast<double>(input_.point.block_size) * static_cast<double>(input_.point.head_dim);
    }

private:
    Complex turn(std::size_t pair, std::int64_t token) const {
        return std::polar(1.0, keys_.frequencies[pair] * static_cast<double>(token));
    }

    class Trial {
    public:
        Trial(const TextSampler& sampler, std::uint64_t trial)
            : sampler_(sampler),
              keys_(sampler.keys_),
              point_(sampler.input_.point),
              trial_(trial),
              places_(point_, sampler.input_.key, trial),
              normals_(keys_, sampler.input_.key, trial),
              x_(keys_.pairs()),
              block_turn_(keys_.pairs()),
              key_(static_cast<std::size_t>(point_.head_dim)),
              scores_(static_cast<std::size_t>(point_.candidates)) {}

        std::uint64_t rank() {
            normals_.draw(places_.needle);
            const Chain at_needle(keys_, normals_);
            at_needle.write_centred(normals_, x_);
            BlockScore score(point_, query(), keys_.query_sink);
            Chain onward = at_needle;
            Chain back = at_needle;
            const std::int64_t first = places_.block * point_.block_size;
            const std::int64_t end = first + point_.block_size;
            enter(places_.block);
            add(places_.needle, score);
            for (std::int64_t token = places_.needle + 1; token < end; ++token) step(onward, token, score);
            for (std::int64_t token = places_.needle - 1; token >= first; --token) step(back, token, score);
            scores_[static_cast<std::size_t>(places_.block)] = score.take();
            for (std::int64_t block = places_.block + 1; block < point_.candidates; ++block) {
                enter(block);
                for (std::int64_t place = 0; place < point_.block_size; ++place) {
                    step(onward, block * point_.block_size + place, score);
                }
                scores_[static_cast<std::size_t>(block)] = score.take();
            }
            for (std::int64_t block = places_.block - 1; block >= 0; --block) {
                enter(block);
                for (std::int64_t place = point_.block_size - 1; place >= 0; --place) {
                    step(back, block * point_.block_size + place, score);
                }
                scores_[static_cast<std::size_t>(block)] = score.take();
            }
            return blocks_above();
        }

    private:
        /// At its position, of the needle whose centred key is x_.
        Pairs query() const {
            std::vector<float> normals((2 * keys_.pairs() + 3) / 4 * 4);
            fill_gaussian(normals, sampler_.input_.key, trial_, kCommonDraw);
            Pairs needle(keys_.pairs());
            Pairs noise(keys_.pairs());
            for (std::size_t pair = 0; pair < keys_.pairs(); ++pair) {
                needle[pair] = x_[pair] * sampler_.turn(pair, places_.needle - places_.query);
                noise[pair] = {normals[2 * pair], normals[2 * pair + 1]};
            }
            Pairs query = analysis::text_query(keys_, needle, noise, point_.mu_signal, point_.query_mean);
            for (std::size_t pair = 0; pair < keys_.pairs(); ++pair) query[pair] *= sampler_.turn(pair, places_.query);
            return query;
        }

        void enter(std::int64_t block) {
            for (std::size_t pair = 0; pair < keys_.pairs(); ++pair) {
                block_turn_[pair] = sampler_.turn(pair, block * point_.block_size);
            }
        }

        void step(Chain& chain, std::int64_t token, BlockScore& score) {
            normals_.draw(token);
            chain.step(normals_);
            chain.write_centred(normals_, x_);
            add(token, score);
        }

        /// The key whose centred part is x_.
        void add(std::int64_t token, BlockScore& score) {
            const std::int64_t place = token % point_.block_size;
            const Complex* turns = sampler_.turns_.data() + static_cast<std::size_t>(place) * keys_.pairs();
            const double mean = keys_.mean_length * keys_.mean_part;
            for (std::size_t pair = 0; pair < keys_.pairs(); ++pair) {
                const Complex turned = (x_[pair] + mean) * (turns[pair] * block_turn_[pair]);
                key_[2 * pair] = turned.real();
                key_[2 * pair + 1] = turned.imag();
            }
            if (keys_.sink > 0.0) key_[key_.size() - 2] = token == 0 ? keys_.sink : 0.0;
            score.add(place, key_);
        }

        /// Those that beat the needle's; equal scores go to the higher index.
        std::uint64_t blocks_above() const {
            const auto target = static_cast<std::size_t>(places_.block);
            std::uint64_t above = 0;
            for (std::size_t block = 0; block < scores_.size(); ++block) {
                above += scores_[block] > scores_[target] || (scores_[block] == scores_[target] && block > target);
            }
            return above;
        }

        const TextSampler& sampler_;
        const TextKeys& keys_;
        const RoutingPoint& point_;
        std::uint64_t trial_;
        Places places_;
        TokenNormals normals_;  ///< of the current token
        Pairs x_;
        Pairs block_turn_;
        std::vector<double> key_;  ///< [channels], turned
        std::vector<double> scores_;
    };

    SamplerInput input_;
    TextKeys keys_;
    Pairs turns_;  ///< [place in a block][pair]
};

}  // namespace

std::unique_ptr<Sampler> make_text_sampler(const SamplerInput& input) {
    const RoutingPoint& point = input.point;
    if (point.block_size > kMostTextTurns / point.head_dim) {
        throw analysis::InputError(
            fmt::format("block_size = {} with head_dim = {}: model text takes at most {} coordinates a block; nearest "
                        "valid block_size is {}",
                        point.block_size, point.head_dim, kMostTextTurns,
                        std::max<std::int64_t>(1, kMostTextTurns / point.head_dim)));
    }
    const TextKeys keys(point);
    const double draws = static_cast<double>(TokenNormals(keys, input.key, 0).draws());
    check_draws(point, draws * static_cast<double>(point.candidates) * static_cast<double>(point.block_size),
                static_cast<double>(kCommonDraw));
    return std::make_unique<TextSampler>(input);
}

}  // namespace mobalab::sim
