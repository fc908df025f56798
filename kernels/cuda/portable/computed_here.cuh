#pragma once

namespace mobalab::kernels::cuda::portable {

/// The same number, of which the compiler knows nothing: what hangs on it is computed where it is used, and takes no
/// registers through the loops around it.
__device__ __forceinline__ int computed_here(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

}  // namespace mobalab::kernels::cuda::portable
