#include "sim/streams/vector_rows.h"

#include <cmath>
#include <cstddef>

#include "sim/streams/philox_constants.h"
#include "sim/streams/transforms.h"

namespace mobalab::sim {
namespace {

constexpr std::uint64_t kLow = 0xffffffffU;

std::uint64_t draw_of(std::uint64_t quad, std::uint64_t row) {
    return (quad << 32U) + row;
}

}  // namespace

void make_quad_operands(std::span<QuadOperands> quads, PhiloxKey key, std::uint64_t trial, std::int64_t head_dim) {
    float norm2[2] = {0.0F, 0.0F};
    for (std::size_t j = 0; j < quads.size(); ++j) {
        const auto w = philox_block(key, trial, draw_of(j, 0));
        const std::int64_t left = head_dim - 4 * static_cast<std::int64_t>(j);
        float(*const coords[2])[2] = {&quads[j].even_coords, &quads[j].odd_coords};
        for (std::size_t pair = 0; pair < 2; ++pair) {
            const PolarPairOf<float> polar = polar_normal_pair(w[2 * pair], w[2 * pair + 1]);
            const float first = polar.radius * polar.cos;
            const std::int64_t used = left - 2 * static_cast<std::int64_t>(pair);
            (*coords[0])[pair] = used >= 1 ? first : 0.0F;
            (*coords[1])[pair] = used >= 2 ? polar.radius * polar.sin : 0.0F;
            norm2[pair] += used >= 2 ? polar.squared_radius : used == 1 ? first * first : 0.0F;
        }
    }
    const float norm = std::sqrt(norm2[0] + norm2[1]);
    // Rounds 1 and 2 of a row's block as far as they do not depend on the row (sim/simd/vector_affinities.h).
    const std::uint64_t round1_high = ((trial & kLow) * kPhiloxM1) >> 32U;
    for (std::size_t j = 0; j < quads.size(); ++j) {
        const std::uint64_t product = (round1_high ^ j ^ key.lo) * kPhiloxM0;
        quads[j].x2 = (product >> 32U) ^ static_cast<std::uint32_t>(key.hi + kPhiloxW1);
        quads[j].x3 = product & kLow;
        for (std::size_t pair = 0; pair < 2; ++pair) {
            quads[j].even_coords[pair] /= norm;
            quads[j].odd_coords[pair] /= norm;
        }
    }
}

}  // namespace mobalab::sim
