#pragma once

// Launches that may begin before the previous kernel of the stream has ended (launch.h). Devices before Hopper know no
// such launches: kernels there begin when the one before has ended.
namespace mobalab::kernels::cuda::ptx {

/// Until the kernel before this one has ended and its results are visible; a kernel launched with launch_early() calls
/// it before it touches global memory.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// The next kernel's thread blocks may take the place of this one's as they leave.
__device__ __forceinline__ void let_next_kernel_launch() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace mobalab::kernels::cuda::ptx
