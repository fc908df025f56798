#pragma once

#include <cstdint>

#include "kernels/cuda/lists/lists.h"

// How thread blocks that look at (query, selected block) pairs are cut: a thread sorts a query, so a warp takes tiles
// of 32 queries. Rows of at most most_sorted_slots slots.
namespace mobalab::kernels::cuda {

inline constexpr int tile_queries = 32;
inline constexpr int count_warps = 8;                       // of a thread block of count_kernel
inline constexpr int usual_emit_warps = 8;                  // of a thread block of emit_kernel
inline constexpr int lists_together = 8;                    // counters of emit_kernel that are cleared at once
inline constexpr std::int64_t most_lists_per_range = 7000;  // less than 2^13: of a list among those of its range

MOBALAB_HOST_DEVICE constexpr int whole_groups(int lists) {
    return (lists + lists_together - 1) / lists_together * lists_together;
}
/// Registers that hold the sorted blocks of a query: 8, 16, 32 or 64.
MOBALAB_HOST_DEVICE constexpr int pair_width(int slots) {
    return slots <= 8 ? 8 : slots <= 16 ? 16 : slots <= 32 ? 32 : most_sorted_slots;
}
/// Words between the rows of queries in shared memory: odd, so that threads that read a row each meet in no bank.
MOBALAB_HOST_DEVICE constexpr int row_stride(int slots) {
    return slots | 1;
}
/// Tiles of a warp of count_kernel that are on their way or in work.
MOBALAB_HOST_DEVICE constexpr int count_tiles(int width) {
    return width <= 16 ? 2 : 1;
}
/// Tiles a warp of emit_kernel has at a time. Their pairs are in registers: a slot each.
MOBALAB_HOST_DEVICE constexpr int emit_tiles(int width) {
    return width <= 32 ? 32 / width : 1;
}
/// Warps of a thread block of emit_kernel that has a multiprocessor for itself, and how many thread blocks of `warps`
/// warps one has registers for.
MOBALAB_HOST_DEVICE constexpr int lone_emit_warps(int width) {
    return width <= 32 ? 16 : usual_emit_warps;
}
MOBALAB_HOST_DEVICE constexpr int emit_blocks(int width, int warps) {
    return warps > usual_emit_warps ? 1 : width <= 32 ? 3 : 2;
}

/// Shared memory of a thread block of count_kernel, in bytes: a counter a list, and tiles.
constexpr std::int64_t count_bytes(std::int64_t lists, int slots) {
    return 4 * (lists + std::int64_t{count_warps} * count_tiles(pair_width(slots)) * tile_queries * row_stride(slots));
}
/// Shared memory of a thread block of emit_kernel, in bytes: a counter of 2 bytes for every list and warp, two words a
/// list, and a word for every pair.
constexpr std::int64_t emit_list_bytes(int warps) {
    return 2 * warps + 8;
}
constexpr std::int64_t emit_bytes(int lists, int slots, int warps) {
    return whole_groups(lists) * emit_list_bytes(warps) +
           std::int64_t{4} * warps * emit_tiles(pair_width(slots)) * tile_queries * row_stride(slots);
}

}  // namespace mobalab::kernels::cuda
