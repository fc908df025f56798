#pragma once

namespace mobalab::kernels::cuda {

/// The same number, of which the compiler knows no more than that it is not negative: what hangs on it is computed
/// where it is used, and takes no registers through the loops around it.
__device__ __forceinline__ int computed_here(int x) {
    asm volatile("" : "+r"(x));
    if (x < 0) __builtin_unreachable();
    return x;
}

}  // namespace mobalab::kernels::cuda
