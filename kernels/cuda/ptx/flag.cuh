#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"

// Counters in global memory through which thread blocks of one launch wait for one another's results.
namespace mobalab::kernels::cuda::ptx {

/// What was written before the add_release()s that `counter` shows is visible to this thread, and to those it
/// synchronises with, afterwards.
__device__ __forceinline__ std::int32_t load_acquire(const std::int32_t* counter) {
    std::int32_t value;
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
    return value;
}

/// Raises `counter` by one, after everything this thread has written or seen written.
__device__ __forceinline__ void add_release(std::int32_t* counter) {
    asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(counter) : "memory");
}

/// The same between the warps of a thread block, through shared memory.
__device__ __forceinline__ std::int32_t load_acquire_shared(const std::int32_t* counter) {
    std::int32_t value;
    asm volatile("ld.acquire.cta.shared.s32 %0, [%1];" : "=r"(value) : "r"(shared_address(counter)) : "memory");
    return value;
}
__device__ __forceinline__ void store_release_shared(std::int32_t* counter, std::int32_t value) {
    asm volatile("st.release.cta.shared.s32 [%0], %1;" ::"r"(shared_address(counter)), "r"(value) : "memory");
}

}  // namespace mobalab::kernels::cuda::ptx
