#include "kernels/cpu/topk.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

namespace mobalab::kernels::cpu {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();
constexpr Index mark_bits = 32;
constexpr std::uint32_t nan_bits = 0x7fffffffU;  // the largest of all

std::uint64_t encode(float score, Index block) {
    // -0 and +0 tie, and so do all NaN, above +inf.
    const auto bits = std::isnan(score) ? nan_bits : std::bit_cast<std::uint32_t>(score + 0.0F);
    const std::uint32_t ordered = (bits >> 31) != 0U ? ~bits : bits | 0x80000000U;
    return std::uint64_t{ordered} << 32 | static_cast<std::uint32_t>(block);
}

float decode_score(std::uint64_t key) {
    const auto ordered = static_cast<std::uint32_t>(key >> 32);
    return std::bit_cast<float>((ordered >> 31) != 0U ? ordered & 0x7fffffffU : ~ordered);
}

std::int32_t decode_block(std::uint64_t key) {
    return static_cast<std::int32_t>(key & 0xffffffffU);
}

}  // namespace

void TopK::clear() {
    for (std::vector<Key>& keys : best_) keys.clear();
}

void TopK::find_thresholds(const Eigen::Ref<const ScoreTile>& scores, Index first_row) {
    sorted_.assign(static_cast<std::size_t>(kept_), Lanes::Constant(minus_infinity));
    for (Index column = 0; column < scores.cols(); column += group) {
        Lanes x = scores.col(column).segment<lanes>(first_row).array();
        for (Index i = 1; i < group; ++i) x = x.max(scores.col(column + i).segment<lanes>(first_row).array());
        // A NaN passes any threshold, so a group that has one may count as less than it is, never as more.
        x = (x == x).select(x, Lanes::Constant(minus_infinity));
        for (Lanes& slot : sorted_) {
            const Lanes larger = slot.max(x);
            x = slot.min(x);
            slot = larger;
        }
    }
    threshold_ = sorted_.back();
}

void TopK::mark_survivors(const Eigen::Ref<const ScoreTile>& scores, Index first_row) {
    marks_.assign(static_cast<std::size_t>((scores.cols() + mark_bits - 1) / mark_bits * lanes), 0);
    for (Index column = 0; column < scores.cols(); ++column) {
        const float* score = scores.col(column).data() + first_row;
        std::uint32_t* marks = marks_.data() + column / mark_bits * lanes;
        const auto shift = static_cast<std::uint32_t>(column % mark_bits);
        for (Index lane = 0; lane < lanes; ++lane) {
            marks[lane] |= static_cast<std::uint32_t>(!(score[lane] < threshold_[lane])) << shift;  // NaN survives
        }
    }
}

void TopK::collect(const Eigen::Ref<const ScoreTile>& scores, Index row, Index first_block, Index candidates) {
    std::vector<Key>& keys = best_[static_cast<std::size_t>(row)];
    const std::uint32_t* marks = marks_.data() + row % lanes;
    for (Index base = 0; base < scores.cols(); base += mark_bits, marks += lanes) {
        for (std::uint32_t bits = *marks; bits != 0; bits &= bits - 1) {
            const Index column = base + std::countr_zero(bits);
            if (first_block + column >= candidates) return;
            if (scores(row, column) == minus_infinity) continue;
            keys.push_back(encode(scores(row, column), first_block + column));
        }
    }
}

void TopK::add(const Eigen::Ref<const ScoreTile>& scores, Index first_block, const std::vector<Index>& candidates,
               Index rows) {
    for (Index first_row = 0; first_row < rows; first_row += lanes) {
        find_thresholds(scores, first_row);
        mark_survivors(scores, first_row);
        for (Index row = first_row; row < std::min(rows, first_row + lanes); ++row) {
            collect(scores, row, first_block, candidates[static_cast<std::size_t>(row)]);
            std::vector<Key>& keys = best_[static_cast<std::size_t>(row)];
            if (static_cast<Index>(keys.size()) <= kept_) continue;
            std::nth_element(keys.begin(), keys.begin() + kept_, keys.end(), std::greater<>());
            keys.resize(static_cast<std::size_t>(kept_));
        }
    }
}

void TopK::write(Index row, std::int32_t* blocks, float* scores) {
    std::vector<Key>& keys = best_[static_cast<std::size_t>(row)];
    std::sort(keys.begin(), keys.end(), std::greater<>());
    const auto found = static_cast<Index>(keys.size());
    for (Index slot = 0; slot < kept_; ++slot) {
        blocks[slot] = slot < found ? decode_block(keys[static_cast<std::size_t>(slot)]) : -1;
        if (scores == nullptr) continue;
        scores[slot] = slot < found ? decode_score(keys[static_cast<std::size_t>(slot)]) : minus_infinity;
    }
}

}  // namespace mobalab::kernels::cpu
