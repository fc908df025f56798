#pragma once

#include <cstdint>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/cuda/forward/work_unit.cuh"

namespace mobalab::kernels::cuda::portable {

/// Whether a listed query may not see every one of the Keys keys of the run.
template <int Keys>
__device__ __forceinline__ bool hides_keys_of_lists(const BlockForwardArgs& args, const WorkUnit& unit) {
    return args.block_size < args.keys_per_list || unit.keys < Keys;
}

/// This lane's keys from `first` up to `end`, both counted from the first key of the list, that lie in the run.
template <int Keys>
__device__ __forceinline__ std::uint32_t keys_between(int first, int end, int run_first, int lane) {
    const auto before = [&](int key) { return keys_before(min(max(key - run_first, 0), Keys), lane); };
    return before(end) & ~before(first);
}

/// Which of this lane's keys of a run of up to Keys the rows lane / 4 and lane / 4 + 8 of a strip see. `entry`: of row
/// lane % 16. run_first: the run's first key, counted from that of the list.
template <int Keys>
__device__ __forceinline__ VisibleKeys visible_keys_of_run(const BlockForwardArgs& args, const WorkUnit& unit,
                                                           int run_first, bool own, std::uint32_t entry, int lane) {
    const std::uint32_t real = keys_before(max(unit.keys, 0), lane);
    VisibleKeys visible;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const std::uint32_t of_row = __shfl_sync(0xffffffffu, entry, lane / 4 + 8 * h);
        std::uint32_t seen = 0;
        if (own) {
            const int last = static_cast<int>(of_row) - unit.diagonal + run_first;
            const int first = args.block_size < args.keys_per_list ? last - last % args.block_size : 0;
            seen = keys_between<Keys>(first, last + 1, run_first, lane);
        } else if (args.block_size >= args.keys_per_list) {
            seen = 0xffffffffu;
        } else {
            int block = 0;
            for (int first = 0; first < args.keys_per_list; first += args.block_size, ++block) {
                if ((entry_mask(of_row) >> block & 1u) == 0) continue;
                seen |= keys_between<Keys>(first, first + args.block_size, run_first, lane);
            }
        }
        visible.row[h] = seen & real;
    }
    return visible;
}

}  // namespace mobalab::kernels::cuda::portable
