#pragma once

#include <cstdint>

namespace mobalab::sim {

/// The multipliers and key steps of Philox4x32 (Salmon et al. 2011, table 2), for the rounds that are written out here:
/// in vector registers, on CUDA, and where lanes share the first of them.
inline constexpr std::uint32_t kPhiloxM0 = 0xD2511F53U;
inline constexpr std::uint32_t kPhiloxM1 = 0xCD9E8D57U;
inline constexpr std::uint32_t kPhiloxW0 = 0x9E3779B9U;
inline constexpr std::uint32_t kPhiloxW1 = 0xBB67AE85U;

}  // namespace mobalab::sim
