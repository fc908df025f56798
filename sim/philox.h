#pragma once

#include <Random123/philox.h>

#include <array>
#include <cstdint>
#include <string_view>

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

/// Key of one stream: `seed` is the user's, `identity` a hash of whatever the stream belongs to (hash_text). For one
/// identity different seeds never share a key, for one seed different identities never do (both maps are bijective).
PhiloxKey stream_key(std::uint64_t seed, std::uint64_t identity);

/// 64-bit FNV-1a hash of a text (Fowler, Noll, Vo); the same on every machine.
std::uint64_t hash_text(std::string_view text);

/// The four words of one block (Random123).
inline std::array<std::uint32_t, 4> philox_block(PhiloxKey key, std::uint64_t subsequence, std::uint64_t draw) {
    const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
    const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32U); };
    const r123::Philox4x32::ctr_type counter = {{low(draw), high(draw), low(subsequence), high(subsequence)}};
    const r123::Philox4x32::key_type philox_key = {{key.lo, key.hi}};
    const auto words = r123::Philox4x32{}(counter, philox_key);
    return {words[0], words[1], words[2], words[3]};
}

}  // namespace mobalab::sim
