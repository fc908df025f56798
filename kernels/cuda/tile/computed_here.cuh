#pragma once

#include <cstdint>

namespace mobalab::kernels::cuda {

/// The same number, of which the compiler knows no more than its type: what hangs on it is computed where it is used,
/// and takes no registers through the loops around it.
__device__ __forceinline__ std::uint32_t computed_here(std::uint32_t x) {
    asm volatile("" : "+r"(x));
    return x;
}
/// The same of what is not negative, which the compiler may know.
__device__ __forceinline__ int computed_here(int x) {
    asm volatile("" : "+r"(x));
    if (x < 0) __builtin_unreachable();
    return x;
}

}  // namespace mobalab::kernels::cuda
