#pragma once

#include <cstdint>

#include "kernels/cuda/top_k_key.cuh"

// The best scores of rows whose scores lie in shared memory, two lanes a row: lanes r and r + 16 look through every
// second score of row r.
namespace mobalab::kernels::cuda {

/// The best of both lanes' keys, in both of them, largest first. keys(round, fresh) gives eight of the lane's own.
template <int Size, typename Integer, typename Keys>
__device__ __forceinline__ void best_of_row(Integer (&best)[Size], int rounds, const Keys& keys) {
    // The larger of a descending and an ascending sequence, element by element, is bitonic and holds the largest.
    const auto take_larger = [](Integer& kept, Integer other) { kept = other > kept ? other : kept; };
    {
        Integer fresh[8];
        keys(0, fresh);
        sort(fresh);
#pragma unroll
        for (int j = 0; j < Size; ++j) best[j] = j < 8 ? fresh[j] : Integer{0};
    }
#pragma unroll 1
    for (int round = 1; round < rounds; ++round) {
        Integer fresh[8];
        keys(round, fresh);
        sort(fresh);
#pragma unroll
        for (int j = 0; j < 8; ++j) take_larger(best[Size - 8 + j], fresh[7 - j]);
        merge_bitonic(best);
    }
    Integer other[Size];
#pragma unroll
    for (int j = 0; j < Size; ++j) other[j] = __shfl_xor_sync(full_warp, best[Size - 1 - j], 16);
#pragma unroll
    for (int j = 0; j < Size; ++j) take_larger(best[j], other[j]);
    merge_bitonic(best);
}

}  // namespace mobalab::kernels::cuda
