#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

inline constexpr std::int64_t most_listed_slots = 63;  ///< that the kernels take which keep lists

/// fp32 numbers of workspace that launch_route() needs for scores; 0 where it stores none. About 270 MB at most.
std::int64_t stored_scores(const Problem& problem);

/// Rows of a thread block that stores scores: there is room for one group of 64 of the widest queries, for two of
/// others.
constexpr std::int64_t item_rows_of(std::int64_t padded_head_dim) {
    return padded_head_dim > 128 ? 64 : 128;
}

/// How the rows of a problem are cut so that their scores fit a bounded workspace: (sequence, head, item_rows rows) is
/// an item, and some consecutive items are a window.
struct ScoreWindows {
    std::int64_t item_rows, row_tiles = 0;  ///< of an item; items of a (sequence, head)
    std::int64_t pitch = 0;                 ///< columns of a row
    std::int64_t items = 0, items_of_window = 1;

    ScoreWindows(const Problem& problem, std::int64_t item_rows);
    std::int64_t scores() const { return items_of_window * item_rows * pitch; }  ///< of a window
};

}  // namespace mobalab::kernels::cuda
