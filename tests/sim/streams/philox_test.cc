#include "sim/streams/philox.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <set>

namespace mobalab::sim {
namespace {

using Block = std::array<std::uint32_t, 4>;

// Known answers of Philox4x32-10 published with Random123 (kat_vectors).
TEST(Philox, known_answers) {
    EXPECT_EQ(philox_block({0, 0}, 0, 0), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    constexpr std::uint64_t kOnes = 0xffffffffffffffffU;
    EXPECT_EQ(philox_block({0xffffffff, 0xffffffff}, kOnes, kOnes),
              (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
    // Digits of pi: counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0.
    EXPECT_EQ(philox_block({0xa4093822, 0x299f31d0}, 0x0370734413198a2eU, 0x85a308d3243f6a88U),
              (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(StreamKey, neighbours_never_collide) {
    std::set<std::uint64_t> keys;
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        for (std::uint64_t identity = 0; identity < 300; ++identity) {
            keys.insert(stream_key(seed, identity).as_curand_seed());
        }
    }
    EXPECT_EQ(keys.size(), 300U * 300U);
}

TEST(HashText, known_answers) {
    EXPECT_EQ(hash_text(""), 0xcbf29ce484222325U);
    EXPECT_EQ(hash_text("a"), 0xaf63dc4c8601ec8cU);
    EXPECT_EQ(hash_text("foobar"), 0x85944171f73967e8U);
}

}  // namespace
}  // namespace mobalab::sim
