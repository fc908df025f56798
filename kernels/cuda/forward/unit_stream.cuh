#pragma once

#include <cstdint>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/cuda/forward/work_unit.cuh"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"

// How the producer warp of a persistent kernel tells its consumer warpgroups what there is to do: units of work in
// shared memory, unit n in slot n % unit_slots.
namespace mobalab::kernels::cuda {

inline constexpr int unit_slots = 4;

struct UnitSlots {
    alignas(16) std::uint32_t entries[unit_slots][max_tiles_per_item * rows_per_tile];
    WorkUnit units[unit_slots];
    std::uint64_t announced[unit_slots];  ///< the slot holds its unit; one arrival

    __device__ __forceinline__ const WorkUnit& unit(std::uint32_t number) const { return units[number % unit_slots]; }
};

/// The unit's description and list entries: consumers must not wait for global memory to learn whom to gather.
__device__ __forceinline__ void announce(const BlockForwardArgs& args, UnitSlots& slots, int slot,
                                         const WorkUnit& unit) {
    slots.units[slot] = unit;
    const int rows = unit.list_end - unit.list_begin;
    if (rows == 0) {
        ptx::mbarrier_arrive(&slots.announced[slot]);
        return;
    }
    const std::uint32_t bytes = static_cast<std::uint32_t>(rows + 3) / 4 * 16;  // lists are padded to whole tiles
    ptx::mbarrier_arrive_expect(&slots.announced[slot], bytes);
    ptx::bulk_load(slots.entries[slot], args.lists.entries + unit.list_begin, bytes, &slots.announced[slot]);
}

/// There is no unit any more.
__device__ __forceinline__ void announce_end(UnitSlots& slots, int slot) {
    slots.units[slot].tiles = -1;
    ptx::mbarrier_arrive(&slots.announced[slot]);
}

/// A consumer warp's place in the sequence of units. The tiles of all units are dealt to the warpgroups in turn.
template <int Groups>
struct Cursor {
    std::uint32_t unit = ~0u;  ///< the one before unit 0
    int tiles = 0;
    int tile = 0;
    int dealt = 0;  ///< tiles of all units before this one, mod Groups
    bool stop = false;

    __device__ __forceinline__ bool on_tile() const { return stop || tile < tiles; }

    __device__ __forceinline__ void next_unit(UnitSlots& slots, int group) {
        dealt = (dealt + tiles) % Groups;
        ++unit;
        const std::uint32_t slot = unit % unit_slots;
        ptx::mbarrier_wait(&slots.announced[slot], unit / unit_slots & 1);
        tiles = slots.units[slot].tiles;
        stop = tiles < 0;
        const int ahead = group - dealt;
        tile = ahead < 0 ? ahead + Groups : ahead;
    }
};

}  // namespace mobalab::kernels::cuda
