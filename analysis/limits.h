#pragma once

#include <cstdint>

namespace mobalab::analysis {

/// The values a routing point may have (validate()); other rooms and the command line take them from here.
inline constexpr std::int64_t least_head_dim = 2;
inline constexpr std::int64_t most_candidates = 1'000'000;
inline constexpr std::int64_t most_topk = 512;
inline constexpr std::int64_t most_needles = 512;
inline constexpr std::int64_t most_key_conv =
    8;  ///< as kernels::max_conv_width (tests/experiments/points/grid_test.cc)
inline constexpr double most_key_conv_tap = 8.0;
inline constexpr std::int64_t most_key_memory = 65536;  ///< tokens; a power of 4
inline constexpr double least_effective_dim = 2.0;      ///< one rotation pair holds all
inline constexpr double most_key_mean = 0.9999;         ///< a mean 71 times as long as what varies
inline constexpr double most_sink = 1e6;
/// Of scorer submean's exact law: its work grows with the square of the cluster's size.
inline constexpr std::int64_t most_sub_block_cluster = 64;

}  // namespace mobalab::analysis
