#pragma once

#include <cstdint>

namespace mobalab::sim {

/// Random numbers are Philox4x32-10 blocks (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a
/// pure function of a 64-bit key and a 128-bit counter, so a draw depends on its address alone, never on who asks.
///
/// Address of a block: (key, subsequence, draw). Counter words: c0, c1 = low, high half of draw; c2, c3 = low, high
/// half of subsequence. The engine uses the trial number as the subsequence.
///
/// Same words in cuRAND's device API: word w of block `draw` is the next curand() after
/// curand_init(key.as_curand_seed(), subsequence, 4 * draw + w, &state) of a curandStatePhilox4_32_10_t
/// (draw < 2^62, as the offset has 64 bits).
struct PhiloxKey {
    std::uint32_t lo = 0;
    std::uint32_t hi = 0;

    constexpr std::uint64_t as_curand_seed() const { return (static_cast<std::uint64_t>(hi) << 32U) | lo; }

    friend bool operator==(const PhiloxKey&, const PhiloxKey&) = default;
};

}  // namespace mobalab::sim
