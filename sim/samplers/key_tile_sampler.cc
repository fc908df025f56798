#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "sim/samplers/needles.h"
#include "sim/samplers/sampler.h"
#include "sim/simd/key_tile_layout.h"
#include "sim/streams/transforms.h"

namespace mobalab::sim {
namespace {

using analysis::RoutingPoint;

/// A row of the stream (sim/streams/vector_rows.h) as a unit vector.
void unit_row(std::span<float> out, PhiloxKey key, std::uint64_t trial, std::uint64_t row) {
    float square = 0.0F;
    for (std::size_t quad = 0; 4 * quad < out.size(); ++quad) {
        const auto words = philox_block(key, trial, (static_cast<std::uint64_t>(quad) << 32U) + row);
        const Pair even = normal_pair(words[0], words[1]);
        const Pair odd = normal_pair(words[2], words[3]);
        const std::array normals = {even.first, even.second, odd.first, odd.second};
        for (std::size_t i = 0; i < std::min<std::size_t>(4, out.size() - 4 * quad); ++i) {
            out[4 * quad + i] = normals[i];
            square += normals[i] * normals[i];
        }
    }
    const float norm = std::sqrt(square);
    for (float& x : out) {
        x /= norm;
    }
}

/// What one thread needs for its trials.
struct Workspace {
    explicit Workspace(const RoutingPoint& point)
        : quads(static_cast<std::size_t>(quads_of(point.head_dim))),
          query(static_cast<std::size_t>(point.head_dim)),
          common(static_cast<std::size_t>(point.head_dim), 0.0F),
          coords(KeyTile::size(point.head_dim), 0.0F),
          scores(static_cast<std::size_t>(point.candidates)) {}

    std::vector<QuadOperands> quads;
    std::vector<float> query;
    std::vector<float> common;
    std::vector<float> coords;
    std::vector<std::uint32_t> order;
    std::vector<std::int64_t> scores;
    KeyMix mix{};
};

/// Real keys, for points whose keys are correlated or convolved: every key is made as a vector (KeyRecipe), keys are
/// convolved in the order of the sequence, and a block's score is the sum of q.k' of its keys in steps of 2^-30.
class KeyTileSampler final : public Sampler {
public:
    explicit KeyTileSampler(const SamplerInput& input) : input_(input), recipe_(input.point) {}

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        Workspace work(input_.point);
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            count_rank(histogram, rank(trial, work));
        }
    }

    double trial_cost() const override {
        return static_cast<double>(input_.point.candidates) * static_cast<double>(input_.point.block_size) *
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
        clear_halo(work.coords);
        const NeedlePlaces places(point, input_.key, trial);
        places.stream_blocks(work.order, point.candidates);
        for (const std::uint32_t block : work.order) {
            work.scores[block] = score(trial, block, places, work);
        }
        return goal_rank(std::span<const std::int64_t>(work.scores), point.goal, places);
    }

    std::int64_t score(std::uint64_t trial, std::uint64_t block, const NeedlePlaces& places, Workspace& work) const {
        const RoutingPoint& point = input_.point;
        const auto block_size = static_cast<std::uint64_t>(point.block_size);
        if (recipe_.random.along > 0.0F) {
            const std::uint64_t keys = static_cast<std::uint64_t>(point.candidates) * block_size;
            unit_row(work.common, input_.key, trial, 1 + keys + block);
        }
        std::int64_t sum = 0;
        for (std::uint64_t token = 0; token < block_size; token += KeyTile::kRows) {
            const auto rows = static_cast<std::size_t>(std::min<std::uint64_t>(KeyTile::kRows, block_size - token));
            input_.loops->draw_keys(work.coords.data(), rows, input_.key, trial, 1 + block * block_size + token,
                                    point.head_dim);
            mix_random_keys(rows, work);
            if (block < places.needles()) {
                mix_planted_keys(rows, token, places.offset(block), work);
            }
            input_.loops->mix_keys(work.coords.data(), rows, work.mix, work.common.data(), work.query.data(),
                                   point.head_dim);
            alignas(64) std::array<float, KeyTile::kRows> affinities;
            input_.loops->convolved_affinities(affinities.data(), work.coords.data(), rows, work.query.data(),
                                               point.head_dim, recipe_.convolution);
            for (std::size_t row = 0; row < rows; ++row) {
                sum += static_cast<std::int64_t>(affinities[row] * kAffinityScale);
            }
            keep_halo(work.coords, rows);
        }
        return sum;
    }

    void mix_random_keys(std::size_t rows, Workspace& work) const {
        alignas(64) std::array<float, KeyTile::kRows> along;
        alignas(64) std::array<float, KeyTile::kRows> squares;
        input_.loops->project_keys(along.data(), squares.data(), work.coords.data(), rows, work.common.data(),
                                   input_.point.head_dim);
        for (std::size_t row = 0; row < rows; ++row) {
            work.mix.own[row] = recipe_.random.across / perpendicular(squares[row], along[row]);
            work.mix.common[row] = recipe_.random.along - work.mix.own[row] * along[row];
            work.mix.query[row] = 0.0F;
        }
    }

    void mix_planted_keys(std::size_t rows, std::uint64_t token, std::uint64_t offset, Workspace& work) const {
        const RoutingPoint& point = input_.point;
        const std::uint64_t end = offset + static_cast<std::uint64_t>(point.cluster_size);
        if (token >= end || token + rows <= offset) {
            return;
        }
        alignas(64) std::array<float, KeyTile::kRows> along;
        alignas(64) std::array<float, KeyTile::kRows> squares;
        input_.loops->project_keys(along.data(), squares.data(), work.coords.data(), rows, work.query.data(),
                                   point.head_dim);
        for (std::uint64_t at = std::max(offset, token); at < std::min(end, token + rows); ++at) {
            const auto row = static_cast<std::size_t>(at - token);
            const double mu = at == offset ? point.mu_signal : point.mu_cluster;
            work.mix.own[row] = static_cast<float>(std::sqrt(1.0 - mu * mu)) / perpendicular(squares[row], along[row]);
            work.mix.common[row] = 0.0F;
            work.mix.query[row] = static_cast<float>(mu) - work.mix.own[row] * along[row];
        }
    }

    void clear_halo(std::vector<float>& coords) const {
        for (std::size_t j = 0; recipe_.convolution.width > 1 && j < work_dims(); ++j) {
            std::fill_n(coords.begin() + static_cast<std::ptrdiff_t>(j * KeyTile::kStride), KeyTile::kHalo, 0.0F);
        }
    }

    /// The last rows, from where they or the halo before them stand, become the halo of the next tile.
    void keep_halo(std::vector<float>& coords, std::size_t rows) const {
        const auto kept = static_cast<std::size_t>(std::max<std::int64_t>(recipe_.convolution.width - 1, 0));
        for (std::size_t j = 0; kept > 0 && j < work_dims(); ++j) {
            float* row = coords.data() + j * KeyTile::kStride + KeyTile::kHalo;
            std::copy_n(row + rows - kept, kept, row - kept);
        }
    }

    std::size_t work_dims() const { return static_cast<std::size_t>(input_.point.head_dim); }

    SamplerInput input_;
    KeyRecipe recipe_;
};

KeyRecipe::Share share_of(double mu) {
    return {static_cast<float>(mu), static_cast<float>(std::sqrt(1.0 - mu * mu))};
}

}  // namespace

KeyRecipe::KeyRecipe(const RoutingPoint& point)
    : random{static_cast<float>(std::sqrt(point.key_correlation)),
             static_cast<float>(std::sqrt(1.0 - point.key_correlation))},
      signal(share_of(point.mu_signal)),
      cluster(share_of(point.mu_cluster)),
      convolution{point.key_conv, static_cast<float>(point.key_conv_tap),
                  point.key_conv_activation == analysis::Activation::silu} {}

std::unique_ptr<Sampler> make_key_tile_sampler(const SamplerInput& input) {
    const RoutingPoint& point = input.point;
    if (point.head_dim > kMostTileHeadDim) {
        throw analysis::InputError(
            fmt::format("head_dim = {}: method vector takes at most {} for correlated or convolved keys; nearest valid "
                        "value is {}, or use method affinity",
                        point.head_dim, kMostTileHeadDim, kMostTileHeadDim));
    }
    return std::make_unique<KeyTileSampler>(input);
}

}  // namespace mobalab::sim
