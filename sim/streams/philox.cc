#include "sim/streams/philox.h"

namespace mobalab::sim {
namespace {

/// Finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words that spreads every bit.
constexpr std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31U);
}

}  // namespace

PhiloxKey stream_key(std::uint64_t seed, std::uint64_t identity) {
    const std::uint64_t key = mix(mix(seed + 0x9e3779b97f4a7c15U) ^ identity);
    return {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32U)};
}

std::uint64_t hash_text(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (const char c : text) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    }
    return hash;
}

}  // namespace mobalab::sim
