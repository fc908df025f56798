#pragma once

#include <cstdint>

namespace mobalab::kernels::cuda {

/// In the place of a list: keeps every score of a warp's 16 rows, in global memory, for select_best() to choose from.
class ScoreStore {
public:
    static constexpr int tile_blocks = 128;
    static constexpr bool surveys = false, stores_scores = true;
    static constexpr int shared_bytes = 0;  // of a warp

    __device__ __forceinline__ ScoreStore(unsigned char*, int, int lane) : lane_(lane) {}

    /// One tile: d as ptx::Wgmma writes it. to: the place of the warp's first row and the tile's first column; pitch:
    /// columns from one row to the next.
    __device__ __forceinline__ void store(const float (&d)[64], float* to, std::int64_t pitch) const {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float* const row = to + (lane_ / 4 + 8 * h) * pitch + 2 * (lane_ % 4);
#pragma unroll
            for (int i = 0; i < 64; i += 4) {
                *reinterpret_cast<float2*>(row + 2 * i) = make_float2(d[i + 2 * h], d[i + 2 * h + 1]);
            }
        }
    }

private:
    int lane_;
};

}  // namespace mobalab::kernels::cuda
