#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"

// Copies from global to shared memory: cp.async (16 bytes a thread), bulk (one contiguous piece) and tensor (a box of a
// tensor map). Bulk and tensor copies are issued by one thread and complete on an mbarrier.
namespace mobalab::kernels::cuda::ptx {

/// 16 bytes, both addresses 16-byte aligned; zeros are written where !valid (the source is then not read).
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid = true) {
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
                 : "memory");
}
/// 4 bytes, both addresses 4-byte aligned.
__device__ __forceinline__ void cp_async_4(void* shared, const void* global) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/// One arrival, of those the barrier expects, once all cp.async of this thread so far are done. What it stored itself
/// is not covered.
__device__ __forceinline__ void cp_async_arrive(std::uint64_t* barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
}
template <int Pending>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}
__device__ __forceinline__ void cp_async_wait_all() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/// Asks for the line of 128 bytes around the address to be in L2.
__device__ __forceinline__ void prefetch_l2(const void* global) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
}

/// `bytes` (multiple of 16) to shared memory, both addresses 16-byte aligned; the barrier must expect the bytes.
__device__ __forceinline__ void bulk_load(void* shared, const void* global, std::uint32_t bytes,
                                          std::uint64_t* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(shared)),
                 "l"(global), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}

/// A box of a 4-dimensional tensor map (innermost coordinate first). Elements outside the tensor arrive as zeros and
/// count in the bytes the barrier must expect.
__device__ __forceinline__ void tensor_load_4d(void* shared, const CUtensorMap* map, int c0, int c1, int c2, int c3,
                                               std::uint64_t* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(shared)),
        "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(shared_address(barrier))
        : "memory");
}
/// Brings such a box to L2.
__device__ __forceinline__ void tensor_prefetch_4d(const CUtensorMap* map, int c0, int c1, int c2, int c3) {
    asm volatile("cp.async.bulk.prefetch.tensor.4d.L2.global [%0, {%1, %2, %3, %4}];" ::"l"(map), "r"(c0), "r"(c1),
                 "r"(c2), "r"(c3)
                 : "memory");
}

}  // namespace mobalab::kernels::cuda::ptx
