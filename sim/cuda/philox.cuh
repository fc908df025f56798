#pragma once

#include <cstdint>

#include "sim/samplers/sampler.h"
#include "sim/streams/philox.h"
#include "sim/streams/philox_constants.h"

namespace mobalab::sim::cuda {

struct Words {
    std::uint32_t x[4];
};

/// Round kRound; `key` is that of round 0.
template <int kRound>
__device__ __forceinline__ void philox_round(Words& w, PhiloxKey key) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(w.x[0]) * kPhiloxM0;
    const std::uint64_t product1 = static_cast<std::uint64_t>(w.x[2]) * kPhiloxM1;
    w.x[0] = static_cast<std::uint32_t>(product1 >> 32U) ^ w.x[1] ^ (key.lo + kRound * kPhiloxW0);
    w.x[2] = static_cast<std::uint32_t>(product0 >> 32U) ^ w.x[3] ^ (key.hi + kRound * kPhiloxW1);
    w.x[1] = static_cast<std::uint32_t>(product1);
    w.x[3] = static_cast<std::uint32_t>(product0);
}

/// Rounds kFirst .. 9.
template <int kFirst>
__device__ __forceinline__ void philox_rounds(Words& w, PhiloxKey key) {
    if constexpr (kFirst < 10) {
        philox_round<kFirst>(w, key);
        philox_rounds<kFirst + 1>(w, key);
    }
}

/// philox_block() of sim/streams/philox.h.
__device__ __forceinline__ Words device_philox(PhiloxKey key, std::uint64_t subsequence, std::uint64_t draw) {
    Words w = {{static_cast<std::uint32_t>(draw), static_cast<std::uint32_t>(draw >> 32U),
                static_cast<std::uint32_t>(subsequence), static_cast<std::uint32_t>(subsequence >> 32U)}};
    philox_rounds<0>(w, key);
    return w;
}

/// signal_block_index() of sim/samplers/sampler.h.
__device__ __forceinline__ std::uint64_t device_signal_index(PhiloxKey key, std::uint64_t trial,
                                                             std::int64_t candidates) {
    const std::uint64_t word = device_philox(key, trial, kIndexDraw).x[0];
    return (word * static_cast<std::uint64_t>(candidates)) >> 32U;
}

}  // namespace mobalab::sim::cuda
