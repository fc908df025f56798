#pragma once

#include <Random123/philox.h>

#include <array>
#include <cstdint>
#include <string_view>

#include "sim/streams/philox_key.h"

namespace mobalab::sim {

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
