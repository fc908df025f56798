#pragma once

#include <cstdint>

#include "sim/cuda/launches.h"
#include "sim/cuda/philox.cuh"

namespace mobalab::sim::cuda {

inline constexpr std::uint32_t kMostNeedles = 512;  ///< analysis/routing_point.h

/// NeedlePlaces of sim/samplers/needles.h, shared by a thread block.
struct DevicePlaces {
    std::uint32_t needles;
    std::uint32_t index[kMostNeedles];
    std::uint32_t offset[kMostNeedles];
    std::uint32_t sorted[kMostNeedles];         ///< index, ascending
    std::uint32_t sorted_needle[kMostNeedles];  ///< whose it is

    /// By one thread.
    __device__ void draw(const BeyondTrials& trials, std::uint64_t trial) {
        needles = trials.needles;
        const std::uint64_t offsets = trials.keys.block_size - trials.keys.cluster_size + 1;
        for (std::uint32_t needle = 0; needle < needles; ++needle) {
            const Words w = device_philox(trials.keys.key, trial, kIndexDraw + needle);
            const auto left = static_cast<std::uint64_t>(trials.keys.candidates) - needle;
            const std::uint32_t place = noise_index(static_cast<std::uint32_t>((w.x[0] * left) >> 32U), needle);
            index[needle] = place;
            offset[needle] = static_cast<std::uint32_t>((w.x[1] * offsets) >> 32U);
            std::uint32_t at = needle;
            for (; at > 0 && sorted[at - 1] > place; --at) {
                sorted[at] = sorted[at - 1];
                sorted_needle[at] = sorted_needle[at - 1];
            }
            sorted[at] = place;
            sorted_needle[at] = needle;
        }
    }

    __device__ std::uint32_t index_of(std::uint32_t stream_block) const {
        return stream_block < needles ? index[stream_block] : noise_index(stream_block - needles, needles);
    }

    __device__ std::uint32_t stream_block(std::uint32_t wanted) const {
        std::uint32_t before = 0;
        while (before < needles && sorted[before] < wanted) {
            ++before;
        }
        return before < needles && sorted[before] == wanted ? sorted_needle[before] : needles + wanted - before;
    }

private:
    __device__ std::uint32_t noise_index(std::uint32_t number, std::uint32_t placed) const {
        for (std::uint32_t i = 0; i < placed && sorted[i] <= number; ++i) {
            ++number;
        }
        return number;
    }
};

/// goal_rank() of sim/samplers/needles.h, by a whole thread block; thread 0 has the result. `above` is one shared
/// counter. Ends with all threads past their last look at the scores.
__device__ inline std::uint32_t device_goal_rank(const std::int64_t* scores, const BeyondTrials& trials,
                                                 const DevicePlaces& places, std::uint32_t& target,
                                                 std::uint32_t& above) {
    const auto beats = [&](std::uint32_t a, std::uint32_t b) {
        return scores[a] > scores[b] || (scores[a] == scores[b] && places.index_of(a) > places.index_of(b));
    };
    if (threadIdx.x == 0) {
        target = 0;
        above = 0;
        for (std::uint32_t needle = 1; needle < places.needles; ++needle) {
            const bool better = trials.goal == analysis::Goal::any && beats(needle, target);
            const bool worse = trials.goal == analysis::Goal::all && beats(target, needle);
            target = better || worse ? needle : target;
        }
    }
    __syncthreads();
    std::uint32_t count = 0;
    for (std::uint32_t b = threadIdx.x; b < trials.keys.candidates; b += blockDim.x) {
        count += b != target && beats(b, target) ? 1U : 0U;
    }
    atomicAdd(&above, count);
    __syncthreads();
    return above;
}

}  // namespace mobalab::sim::cuda
