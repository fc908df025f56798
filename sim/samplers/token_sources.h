#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/samplers/sampler.h"
#include "sim/streams/transforms.h"
#include "sim/streams/vector_rows.h"

namespace mobalab::sim {

// Affinities of a trial's tokens in stream order, in steps of 2^-30: token t of the stream is number t. A source is
// made for one thread; begin() says which trial the next fill() is about. fill() writes whole tiles, so it needs room
// for `count` rounded up to kSmallAffinityTile; `first` is a multiple of it. kBuffer: tokens that are best filled at
// once.

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

    void begin(std::uint64_t trial) { trial_ = trial; }

    /// Affinities of the common components of all stream blocks, where keys are correlated.
    void fill_common(std::vector<std::int32_t>& common) const {
        if (correlated_) {
            common.resize(whole_tiles(static_cast<std::size_t>(input_.point.candidates)));
            input_.loops->fill_affinities(common.data(), common.size(), input_.key, trial_, 2 * kCommonDraw, exponent_);
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

    void begin(std::uint64_t trial) {
        trial_ = trial;
        make_quad_operands(quads_, input_.key, trial, input_.point.head_dim);
    }

    /// Correlated vectors are not this source's.
    static void fill_common(std::vector<std::int32_t>&) {}

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

}  // namespace mobalab::sim
