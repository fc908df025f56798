#pragma once

#include <cstdint>

namespace mobalab::kernels::cuda {

/// 16 bytes of an accumulator row after rounding. Word i of lane t of a quad holds columns 8 i + 2 t + {0, 1} of 32;
/// afterwards columns 8 t + 2 i + {0, 1}: 16 contiguous bytes a lane. The same step leads back.
__device__ __forceinline__ uint4 quad_transpose(uint4 piece, int lane) {
    std::uint32_t a[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int distance = 1; distance <= 2; distance *= 2) {
        const bool upper = (lane & distance) != 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if ((i & distance) != 0) continue;
            std::uint32_t& low = a[i];
            std::uint32_t& high = a[i | distance];
            const std::uint32_t received = __shfl_xor_sync(0xffffffffu, upper ? low : high, distance);
            (upper ? low : high) = received;
        }
    }
    return make_uint4(a[0], a[1], a[2], a[3]);
}

}  // namespace mobalab::kernels::cuda
