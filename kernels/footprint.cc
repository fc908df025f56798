#include "kernels/footprint.h"

#include <algorithm>

namespace mobalab::kernels {
namespace {

/// Differences of two indices along one dimension: low ... high, each worth `stride` elements.
struct Difference {
    std::int64_t stride, low, high;
    std::int64_t count() const { return high - low + 1; }
};

std::int64_t floor_div(std::int64_t a, std::int64_t b) {
    return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

/// Whether some i in [low, high] puts offset + i * stride into [least, most].
bool reaches(std::int64_t offset, const Difference& last, std::int64_t least, std::int64_t most) {
    if (last.stride == 0) return offset >= least && offset <= most;
    const std::int64_t first = std::max(last.low, -floor_div(offset - least, last.stride));
    return first <= last.high && offset + first * last.stride <= most;
}

/// The same over all three dimensions: the longest one is solved, the others are walked through.
bool reaches(std::array<Difference, 3> d, std::int64_t least, std::int64_t most, bool without_origin) {
    std::sort(d.begin(), d.end(), [](const auto& a, const auto& b) { return a.count() < b.count(); });
    for (std::int64_t i = d[0].low; i <= d[0].high; ++i) {
        for (std::int64_t j = d[1].low; j <= d[1].high; ++j) {
            const std::int64_t offset = i * d[0].stride + j * d[1].stride;
            if (!without_origin || i != 0 || j != 0) {
                if (reaches(offset, d[2], least, most)) return true;
                continue;
            }
            // A row may meet itself.
            const Difference below = {d[2].stride, d[2].low, -1};
            const Difference above = {d[2].stride, 1, d[2].high};
            if (below.count() > 0 && reaches(offset, below, least, most)) return true;
            if (above.count() > 0 && reaches(offset, above, least, most)) return true;
        }
    }
    return false;
}

/// Every stride steps over all that the smaller ones cover: the usual case, told without a search.
bool nested(const Footprint& array) {
    std::array<Dimension, 3> d = array.dimensions;
    std::sort(d.begin(), d.end(), [](const auto& a, const auto& b) { return a.stride < b.stride; });
    std::int64_t covered = array.row;
    for (const Dimension& dimension : d) {
        if (dimension.extent <= 1) continue;
        if (dimension.stride < covered) return false;
        covered += (dimension.extent - 1) * dimension.stride;
    }
    return true;
}

bool same_strides(const Footprint& a, const Footprint& b) {
    if (a.element_bytes != b.element_bytes) return false;
    for (std::size_t i = 0; i < a.dimensions.size(); ++i) {
        const bool both = a.dimensions[i].extent > 1 && b.dimensions[i].extent > 1;
        if (both && a.dimensions[i].stride != b.dimensions[i].stride) return false;
    }
    return true;
}

}  // namespace

bool Footprint::empty() const {
    return row == 0 || std::any_of(dimensions.begin(), dimensions.end(), [](const auto& d) { return d.extent == 0; });
}

std::int64_t Footprint::span() const {
    if (empty()) return 0;
    std::int64_t elements = row;
    for (const Dimension& d : dimensions) elements += (d.extent - 1) * d.stride;
    return elements;
}

bool rows_overlap(const Footprint& array) {
    if (array.empty() || nested(array)) return false;
    std::array<Difference, 3> differences{};
    for (std::size_t i = 0; i < differences.size(); ++i) {
        const Dimension& d = array.dimensions[i];
        differences[i] = {d.extent > 1 ? d.stride : 0, 1 - d.extent, d.extent - 1};
    }
    return reaches(differences, 1 - array.row, array.row - 1, true);
}

bool overlap(const Footprint& a, const Footprint& b) {
    if (a.empty() || b.empty()) return false;
    const std::int64_t begin_a = reinterpret_cast<std::intptr_t>(a.data),
                       begin_b = reinterpret_cast<std::intptr_t>(b.data);
    const bool ranges_meet =
        begin_a < begin_b + b.span() * b.element_bytes && begin_b < begin_a + a.span() * a.element_bytes;
    if (!ranges_meet) return false;
    const std::int64_t bytes = begin_b - begin_a;
    if (!same_strides(a, b) || bytes % a.element_bytes != 0) return true;
    // Rows x of a and y of b share an element if -row_a < ... : the offset of y from x lies in (-row_b, row_a).
    std::array<Difference, 3> differences{};
    for (std::size_t i = 0; i < differences.size(); ++i) {
        const Dimension& from = a.dimensions[i];
        const Dimension& to = b.dimensions[i];
        const std::int64_t stride = to.extent > 1 ? to.stride : from.extent > 1 ? from.stride : 0;
        differences[i] = {stride, 1 - from.extent, to.extent - 1};
    }
    const std::int64_t shift = bytes / a.element_bytes;
    return reaches(differences, 1 - b.row - shift, a.row - 1 - shift, false);
}

}  // namespace mobalab::kernels
