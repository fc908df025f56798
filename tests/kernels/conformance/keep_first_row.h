#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace mobalab::kernels::testing_support {

/// Judges one row of a selection with keep_first by the same row without: block 0 is in front, with score +inf, and
/// the others follow as they did (the best slots - 1 without block 0 are what it leaves of the best `slots`). Returns
/// what is wrong, empty when nothing is.
struct KeepFirstRow {
    std::size_t slots = 0;
    bool is_candidate = false;  ///< block 0, of this row

    std::string operator()(const std::int32_t* plain, const float* plain_scores, const std::int32_t* kept,
                           const float* kept_scores) const {
        if (slots == 0) return {};
        if (kept[0] != (is_candidate ? 0 : -1)) return at(0, kept[0]) + "must be " + (is_candidate ? "0" : "-1");
        if (kept_scores[0] != (is_candidate ? INFINITY : -INFINITY)) return at(0, kept[0]) + "has a wrong score";
        const std::size_t found = place_of_block_0(plain);
        for (std::size_t slot = 1; slot < slots; ++slot) {
            const std::size_t from = slot <= found ? slot - 1 : slot;
            if (kept[slot] != plain[from]) return at(slot, kept[slot]) + "must be " + std::to_string(plain[from]);
            if (std::memcmp(kept_scores + slot, plain_scores + from, sizeof(float)) != 0) {
                return at(slot, kept[slot]) + "has score " + std::to_string(kept_scores[slot]) +
                       ", without keep_first " + std::to_string(plain_scores[from]);
            }
        }
        return {};
    }

    /// `slots` where it is not there.
    std::size_t place_of_block_0(const std::int32_t* plain) const {
        return static_cast<std::size_t>(std::find(plain, plain + slots, 0) - plain);
    }

private:
    static std::string at(std::size_t slot, std::int32_t block) {
        return "slot " + std::to_string(slot) + ": block " + std::to_string(block) + " ";
    }
};

}  // namespace mobalab::kernels::testing_support
