#include "sim/samplers/scored_vector_sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "sim/simd/key_tile_layout.h"

namespace mobalab::sim {
namespace {

using analysis::RoutingPoint;
using analysis::ScorePart;
using analysis::Summary;

/// What a summary is before the first key.
float start_of(Summary summary) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    return summary == Summary::mean ? 0.0F : summary == Summary::maximum ? -kInfinity : kInfinity;
}

/// What one thread needs for its trials.
struct Workspace {
    Workspace(const RoutingPoint& point, std::size_t parts)
        : quads(static_cast<std::size_t>(quads_of(point.head_dim))),
          query(static_cast<std::size_t>(point.head_dim)),
          no_common(static_cast<std::size_t>(point.head_dim), 0.0F),
          coords(KeyTile::size(point.head_dim), 0.0F),
          summaries(parts, std::vector<float>(static_cast<std::size_t>(point.head_dim))) {}

    std::vector<QuadOperands> quads;
    std::vector<float> query;
    std::vector<float> no_common;
    std::vector<float> coords;
    std::vector<std::vector<float>> summaries;  ///< of the current block, one for each part of the score
    KeyMix mix{};
};

class ScoredVectorSampler final : public Sampler {
public:
    ScoredVectorSampler(const SamplerInput& input, const analysis::ScorerDefinition& definition)
        : input_(input),
          recipe_(input.point),
          parts_(definition.part.begin(), definition.part.begin() + definition.parts) {}

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        Workspace work(input_.point, parts_.size());
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            count_rank(histogram, rank(trial, work));
        }
    }

    double trial_cost() const override {
        const auto parts = static_cast<double>(parts_.size());
        const double channel = (1.0 + 0.125 * parts) * static_cast<double>(input_.point.block_size) + 3.0 * parts;
        return channel * static_cast<double>(input_.point.candidates) *
               static_cast<double>(4 * quads_of(input_.point.head_dim));
    }

private:
    std::uint64_t rank(std::uint64_t trial, Workspace& work) const {
        const RoutingPoint& point = input_.point;
        make_quad_operands(work.quads, input_.key, trial, point.head_dim);
        for (std::size_t j = 0; j < work.query.size(); ++j) {
            const QuadOperands& quad = work.quads[j / 4];
            const std::size_t pair = j % 4 / 2;
            work.query[j] = j % 2 == 0 ? quad.even_coords[pair] : quad.odd_coords[pair];
        }
        clear_summaries(work);
        const auto block_size = static_cast<std::uint64_t>(point.block_size);
        const std::uint64_t tokens = static_cast<std::uint64_t>(point.candidates) * block_size;
        float signal = 0.0F;
        std::uint64_t above = 0;
        for (std::uint64_t begin = 0; begin < tokens; begin += KeyTile::kRows) {
            const auto rows = static_cast<std::size_t>(std::min<std::uint64_t>(KeyTile::kRows, tokens - begin));
            make_keys(begin, rows, trial, work);
            for (std::size_t row = 0; row < rows;) {
                const std::uint64_t token = begin + row;
                const auto run =
                    static_cast<std::size_t>(std::min<std::uint64_t>(block_size - token % block_size, rows - row));
                for (std::size_t part = 0; part < parts_.size(); ++part) {
                    input_.loops->summarise_keys(work.summaries[part].data(), parts_[part].summary, work.coords.data(),
                                                 row, row + run, point.head_dim);
                }
                row += run;
                if ((begin + row) % block_size != 0) {
                    continue;
                }
                const std::uint64_t block = token / block_size;
                const float score = take_score(work);
                if (block == 0) {
                    signal = score;
                } else if (score >= signal) {
                    above +=
                        score > signal || block > signal_block_index(input_.key, trial, point.candidates) ? 1U : 0U;
                }
            }
        }
        return above;
    }

    /// Unit keys of tokens [begin, begin + rows); the first m of a trial are the cluster's.
    void make_keys(std::uint64_t begin, std::size_t rows, std::uint64_t trial, Workspace& work) const {
        const std::int64_t head_dim = input_.point.head_dim;
        input_.loops->draw_keys(work.coords.data(), rows, input_.key, trial, 1 + begin, head_dim);
        alignas(64) std::array<float, KeyTile::kRows> along;
        alignas(64) std::array<float, KeyTile::kRows> squares;
        input_.loops->project_keys(along.data(), squares.data(), work.coords.data(), rows, work.query.data(), head_dim);
        for (std::size_t row = 0; row < rows; ++row) {
            const std::uint64_t token = begin + row;
            const bool planted = token < static_cast<std::uint64_t>(input_.point.cluster_size);
            const KeyRecipe::Share share = !planted ? recipe_.random : token == 0 ? recipe_.signal : recipe_.cluster;
            const float query_part = planted ? along[row] : 0.0F;
            work.mix.own[row] = share.across / perpendicular(squares[row], query_part);
            work.mix.query[row] = share.along - work.mix.own[row] * query_part;
        }
        input_.loops->mix_keys(work.coords.data(), rows, work.mix, work.no_common.data(), work.query.data(), head_dim);
    }

    /// The score of the block whose summaries are complete, which are then those of no key.
    float take_score(Workspace& work) const {
        float score = 0.0F;
        for (std::size_t j = 0; j < work.query.size(); ++j) {
            float channel = 0.0F;
            for (std::size_t part = 0; part < parts_.size(); ++part) {
                channel += score_term(parts_[part], work.query[j], work.summaries[part][j], input_.point.block_size);
            }
            score += channel;
        }
        clear_summaries(work);
        return score;
    }

    void clear_summaries(Workspace& work) const {
        for (std::size_t part = 0; part < parts_.size(); ++part) {
            std::fill(work.summaries[part].begin(), work.summaries[part].end(), start_of(parts_[part].summary));
        }
    }

    SamplerInput input_;
    KeyRecipe recipe_;
    std::vector<ScorePart> parts_;
};

}  // namespace

std::unique_ptr<Sampler> make_scored_vector_sampler(const SamplerInput& input,
                                                    const analysis::ScorerDefinition& definition) {
    if (input.point.head_dim > kMostTileHeadDim) {
        throw analysis::InputError(
            fmt::format("head_dim = {} with scorer = {}: method vector takes at most {}; nearest valid value is {}",
                        input.point.head_dim, definition.name, kMostTileHeadDim, kMostTileHeadDim));
    }
    return std::make_unique<ScoredVectorSampler>(input, definition);
}

}  // namespace mobalab::sim
