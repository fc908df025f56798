#pragma once

namespace mobalab::kernels::cuda {

/// The mask of all 32 lanes.
inline constexpr unsigned full_warp = 0xffffffffu;

}  // namespace mobalab::kernels::cuda
