#include "sim/streams/unit_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "sim/streams/gaussian.h"

namespace mobalab::sim {
namespace {

constexpr std::size_t kLanes = kUnitRowLanes;

float squared_norm(const float* row, std::size_t head_dim) {
    std::array<float, kLanes> lanes{};
    std::size_t e = 0;
    for (; e + kLanes <= head_dim; e += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            lanes[lane] += row[e + lane] * row[e + lane];
        }
    }
    for (std::size_t lane = 0; e + lane < head_dim; ++lane) {
        lanes[lane] += row[e + lane] * row[e + lane];
    }
    for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
        for (std::size_t lane = 0; lane < half; ++lane) {
            lanes[lane] += lanes[lane + half];
        }
    }
    return lanes[0];
}

void fill_normals(const UnitRows& rows, std::uint64_t first, std::span<float> out) {
    const std::uint64_t skip = first % 4;
    if (skip == 0) {
        fill_gaussian(out, rows.key, rows.subsequence, first / 4);
        return;
    }
    std::vector<float> from_a_whole_draw(out.size() + skip);
    fill_gaussian(from_a_whole_draw, rows.key, rows.subsequence, first / 4);
    std::copy(from_a_whole_draw.begin() + static_cast<std::ptrdiff_t>(skip), from_a_whole_draw.end(), out.begin());
}

}  // namespace

void fill_unit_rows(const UnitRows& rows, std::int64_t first, std::span<float> out) {
    constexpr std::size_t kSlice = 8192;  // normals that are still in cache when they are divided
    const auto head_dim = static_cast<std::size_t>(rows.head_dim);
    const std::size_t slice = std::max<std::size_t>(1, kSlice / head_dim) * head_dim;
    for (std::size_t done = 0; done < out.size(); done += slice) {
        const std::span<float> part = out.subspan(done, std::min(slice, out.size() - done));
        fill_normals(rows, static_cast<std::uint64_t>(first) * head_dim + done, part);
        for (std::size_t row = 0; row < part.size(); row += head_dim) {
            const float scale = 1.0F / std::sqrt(squared_norm(part.data() + row, head_dim));
            for (std::size_t e = row; e < row + head_dim; ++e) {
                part[e] *= scale;
            }
        }
    }
}

}  // namespace mobalab::sim
