#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/block_forward.h"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/work_unit.cuh"

namespace mobalab::kernels::cuda {

/// One warp asks for its 16 query rows (cp.async, 16 bytes a lane and step) into shared rows `pitch` bytes apart. It
/// then commits and waits like for any cp.async. Bulk copies would need one instruction a row, but the copy engine
/// takes its addresses from uniform registers, so the lanes would issue them one after the other. `entry` is
/// tile_entry() of lane % 16.
template <int HeadDim>
__device__ __forceinline__ void gather_queries(const BlockForwardArgs& args, const WorkUnit& unit, std::uint32_t entry,
                                               std::byte* rows, int pitch, int lane) {
    constexpr int pieces = HeadDim / 8, steps = 16 * pieces / 32;
    const char* const q = static_cast<const char*>(args.q) + unit.head * args.q_stride_head;
#pragma unroll 4  // more would cost registers that hold accumulators
    for (int step = 0; step < steps; ++step) {
        const int index = step * 32 + lane, row = index / pieces, piece = index % pieces;
        const std::uint32_t query = entry_query(__shfl_sync(0xffffffffu, entry, row));
        const char* const source =
            q + (unit.q_token + static_cast<std::int64_t>(query)) * args.q_stride_token + piece * 16;
        ptx::cp_async_16(rows + row * pitch + piece * 16, source);
    }
}

}  // namespace mobalab::kernels::cuda
