#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/routing/top_k_key.cuh"

// The best scores of rows whose scores lie in shared memory, two lanes a row: lanes r and r + 16 look through every
// second score of row r.
namespace mobalab::kernels::cuda {

/// The best 2 * Half of key(0) to key(count - 1) of a row, largest first: one half of them in each of its lanes. What
/// key() gives from its row's count on must be below all others. `longest`: the largest count in the warp. half: lane /
/// 16.
template <int Half, typename Integer, typename KeyAt>
__device__ __forceinline__ void best_of_row(Integer (&mine)[Half], int longest, int half, const KeyAt& key) {
    constexpr int Size = 2 * Half;
    Integer best[Size];
    // The larger of a descending and an ascending sequence, element by element, is bitonic and holds the largest.
    const auto take_larger = [](Integer& kept, Integer other) { kept = other > kept ? other : kept; };
    {
        Integer fresh[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) fresh[i] = key(2 * i + half);
        sort(fresh);
#pragma unroll
        for (int j = 0; j < Size; ++j) best[j] = j < 8 ? fresh[j] : Integer{0};
    }
#pragma unroll 1
    for (int begin = 16; begin < longest; begin += Size) {
        Integer fresh[Half];
#pragma unroll
        for (int i = 0; i < Half; ++i) fresh[i] = key(begin + 2 * i + half);
        sort(fresh);
#pragma unroll
        for (int j = 0; j < Half; ++j) take_larger(best[Half + j], fresh[Half - 1 - j]);
        merge_bitonic(best);
    }
    Integer other[Size];
#pragma unroll
    for (int j = 0; j < Size; ++j) other[j] = __shfl_xor_sync(full_warp, best[Size - 1 - j], 16);
#pragma unroll
    for (int j = 0; j < Size; ++j) take_larger(best[j], other[j]);
        // The rest of that sort, of the larger half in one lane, of the smaller one in the other.
#pragma unroll
    for (int j = 0; j < Half; ++j) {
        mine[j] = half == 0 ? max(best[j], best[Half + j]) : min(best[j], best[Half + j]);
    }
    merge_bitonic(mine);
}

}  // namespace mobalab::kernels::cuda
