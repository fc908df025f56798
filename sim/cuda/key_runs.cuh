#pragma once

#include "sim/cuda/key_affinities.cuh"

namespace mobalab::sim::cuda {
namespace {

constexpr std::uint32_t kTile = 1024;  ///< tokens whose affinities are held at once

/// Tokens [begin, begin + count) of a trial, whose runs of run_size tokens (blocks, or their sub-blocks) are summed,
/// and the parts of runs in them: part p belongs to run first_run + p.
struct Tile {
    std::uint64_t begin;
    std::uint32_t count;
    std::uint64_t run_size;
    std::uint64_t first_run;
    std::uint32_t parts;

    __device__ Tile(std::uint64_t size, std::uint64_t first, std::uint64_t tokens)
        : begin(first),
          count(static_cast<std::uint32_t>(
              min(static_cast<unsigned long long>(kTile), static_cast<unsigned long long>(tokens - first)))),
          run_size(size),
          first_run(first / size),
          parts(static_cast<std::uint32_t>((first + count - 1) / size - first_run + 1)) {}

    __device__ std::uint32_t part_begin(std::uint32_t part) const {
        const std::uint64_t start = (first_run + part) * run_size;
        return static_cast<std::uint32_t>(start > begin ? start - begin : 0);
    }
    __device__ std::uint32_t part_end(std::uint32_t part) const {
        const std::uint64_t end = (first_run + part + 1) * run_size - begin;
        return static_cast<std::uint32_t>(end < count ? end : count);
    }
    /// The last run goes on in the next tile.
    __device__ bool last_open() const { return (first_run + parts) * run_size > begin + count; }
};

/// The sum of each part: a thread each where they are short, else a warp each.
__device__ void sum_parts(std::int64_t* sums, const std::int32_t* affinities, const Tile& tile) {
    const std::uint32_t warp = threadIdx.x / 32;
    const std::uint32_t lane = threadIdx.x % 32;
    if (tile.run_size < 64) {
        for (std::uint32_t p = threadIdx.x; p < tile.parts; p += kThreads) {
            std::int64_t sum = 0;
            for (std::uint32_t i = tile.part_begin(p); i < tile.part_end(p); ++i) {
                sum += affinities[i];
            }
            sums[p] = sum;
        }
        return;
    }
    for (std::uint32_t p = warp; p < tile.parts; p += kWarps) {
        std::int64_t sum = 0;
        for (std::uint32_t i = tile.part_begin(p) + lane; i < tile.part_end(p); i += 32) {
            sum += affinities[i];
        }
        for (int step = 16; step > 0; step /= 2) {
            sum += __shfl_xor_sync(0xffffffffU, sum, step);
        }
        if (lane == 0) {
            sums[p] = sum;
        }
    }
}

/// The sum over the thread block, in thread 0.
__device__ std::uint32_t sum_of_threads(std::uint32_t value, std::uint32_t* of_warp) {
    value = __reduce_add_sync(0xffffffffU, value);
    if (threadIdx.x % 32 == 0) {
        of_warp[threadIdx.x / 32] = value;
    }
    __syncthreads();
    std::uint32_t sum = 0;
    if (threadIdx.x == 0) {
        for (std::uint32_t warp = 0; warp < kWarps; ++warp) {
            sum += of_warp[warp];
        }
    }
    return sum;
}

}  // namespace
}  // namespace mobalab::sim::cuda
