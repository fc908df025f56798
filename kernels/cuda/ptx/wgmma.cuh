#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/ptx/mbarrier.cuh"

// Warpgroup matrix multiply: D (fp32 registers, 64 x N) = A (64 x 16) * B (16 x N) [+ D], A and B 16-bit.
//
// Fragment of D in thread t of the warpgroup (warp w = t / 32, lane l): d[4 * j + 2 * h + i] is row 16 * w + 8 * h + l
// / 4, column 8 * j + 2 * (l % 4) + i. A in registers has the layout of mma.m16n8k16: two such column groups packed to
// 16 bit are one A fragment, so the probabilities of one product feed the next without a shuffle.
//
// Order: fence() before the first product (and whenever registers were written), products, commit(), wait<pending>().
// Shared memory written by ordinary stores needs fence_async_proxy() in the writing threads first.
namespace mobalab::kernels::cuda::ptx {

/// Shared-memory operand in the 128-byte swizzle of the copy engine: rows of 64 16-bit elements (128 bytes), 16-byte
/// chunk c of row r stored at chunk c ^ (r % 8), base 1024-byte aligned, 8 rows = 1024 bytes.
///
/// K-major (row = m or n, 64 elements of k): step along k by adding 32 bytes per 16 elements; `leading` is unused.
__device__ __forceinline__ std::uint64_t descriptor_k_major(std::uint32_t address) {
    return static_cast<std::uint64_t>((address & 0x3ffffu) >> 4) | (std::uint64_t{1} << 16) |
           (std::uint64_t{64} << 32) | (std::uint64_t{1} << 62);
}
__device__ __forceinline__ std::uint64_t descriptor_k_major(const void* shared) {
    return descriptor_k_major(shared_address(shared));
}
/// MN-major (row = k, 64 elements of n; B transposed): `panel_bytes` from one panel of 64 n to the next; step along k
/// by adding 2048 bytes per 16 rows.
__device__ __forceinline__ std::uint64_t descriptor_mn_major(const void* shared, std::uint32_t panel_bytes) {
    return static_cast<std::uint64_t>((shared_address(shared) & 0x3ffffu) >> 4) |
           (static_cast<std::uint64_t>(panel_bytes >> 4) << 16) | (std::uint64_t{64} << 32) | (std::uint64_t{1} << 62);
}
/// The descriptor `bytes` further on.
__device__ __forceinline__ std::uint64_t descriptor_advance(std::uint64_t descriptor, std::uint32_t bytes) {
    return descriptor + (bytes >> 4);
}

/// A descriptor in uniform registers. A step along it costs one uniform addition, whereas descriptor_advance() adds 64
/// bits in every thread and moves them to uniform registers for every product: more time than a product takes.
class UniformDescriptor {
public:
    __device__ __forceinline__ explicit UniformDescriptor(std::uint64_t descriptor)
        : low_(__shfl_sync(0xffffffffu, static_cast<std::uint32_t>(descriptor), 0)),
          high_(static_cast<std::uint32_t>(descriptor >> 32)) {}

    /// `bytes` further on.
    __device__ __forceinline__ std::uint64_t at(std::uint32_t bytes) const {
        return static_cast<std::uint64_t>(high_) << 32 | (low_ + (bytes >> 4));
    }

private:
    std::uint32_t low_, high_;
};

__device__ __forceinline__ void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int Pending>
__device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}
/// Keeps the compiler from moving uses of accumulators across a wgmma_wait.
template <int Count>
__device__ __forceinline__ void wgmma_keep(float (&d)[Count]) {
#pragma unroll
    for (int i = 0; i < Count; ++i) {
        asm volatile("" : "+f"(d[i])::"memory");
    }
}

template <typename T, int N, bool TransposeB>
struct Wgmma;  // specialised below for __nv_bfloat16 and __half, N in {32, 64, 96, 128, 256}, B K-major or MN-major
               // (transposed)

#define MOBALAB_D8(d, i)                                                                                        \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
        "+f"(d[i + 7])
#define MOBALAB_D16(d, i) MOBALAB_D8(d, i), MOBALAB_D8(d, i + 8)
#define MOBALAB_D32(d, i) MOBALAB_D16(d, i), MOBALAB_D16(d, i + 16)
#define MOBALAB_D48(d, i) MOBALAB_D32(d, i), MOBALAB_D16(d, i + 32)
#define MOBALAB_D64(d, i) MOBALAB_D32(d, i), MOBALAB_D32(d, i + 32)
#define MOBALAB_D128(d, i) MOBALAB_D64(d, i), MOBALAB_D64(d, i + 64)

// One specialisation. `registers`: the numbers of D's operands; S0..S5: the numbers of the operands after them.
#define MOBALAB_WGMMA(T, type, N, count, transpose, registers, S0, S1, S2, S3, S4, S5)                             \
    template <>                                                                                                    \
    struct Wgmma<T, N, transpose != 0> {                                                                           \
        static constexpr int registers_d = count;                                                                  \
        /* A and B in shared memory; A K-major. D is overwritten where !accumulate. */                             \
        static __device__ __forceinline__ void shared(float (&d)[count], std::uint64_t a, std::uint64_t b,         \
                                                      int accumulate) {                                            \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" S2                                                   \
                         ", 0;\n"                                                                                  \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" registers "}, %" S0  \
                         ", %" S1 ", p, 1, 1, 0, " #transpose ";\n}"                                               \
                         : MOBALAB_D##count(d, 0)                                                                  \
                         : "l"(a), "l"(b), "r"(accumulate));                                                       \
        }                                                                                                          \
        /* The same with A MN-major (row = k, 64 elements of m). */                                                \
        static __device__ __forceinline__ void shared_transposed_a(float (&d)[count], std::uint64_t a,             \
                                                                   std::uint64_t b, int accumulate) {              \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" S2                                                   \
                         ", 0;\n"                                                                                  \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" registers "}, %" S0  \
                         ", %" S1 ", p, 1, 1, 1, " #transpose ";\n}"                                               \
                         : MOBALAB_D##count(d, 0)                                                                  \
                         : "l"(a), "l"(b), "r"(accumulate));                                                       \
        }                                                                                                          \
        /* A in registers, B in shared memory. */                                                                  \
        static __device__ __forceinline__ void registers_a(float (&d)[count], const std::uint32_t (&a)[4],         \
                                                           std::uint64_t b, int accumulate) {                      \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" S5                                                   \
                         ", 0;\n"                                                                                  \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" registers "}, {%" S0 \
                         ", %" S1 ", %" S2 ", %" S3 "}, %" S4 ", p, 1, 1, " #transpose ";\n}"                      \
                         : MOBALAB_D##count(d, 0)                                                                  \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));                   \
        }                                                                                                          \
    };

#define MOBALAB_R16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define MOBALAB_R32                                                          \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define MOBALAB_R48                                                                    \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define MOBALAB_R64                                                                    \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define MOBALAB_R128                                                                               \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#define MOBALAB_WGMMA_SHAPES(T, type, transpose)                                                \
    MOBALAB_WGMMA(T, type, 32, 16, transpose, MOBALAB_R16, "16", "17", "18", "19", "20", "21")  \
    MOBALAB_WGMMA(T, type, 64, 32, transpose, MOBALAB_R32, "32", "33", "34", "35", "36", "37")  \
    MOBALAB_WGMMA(T, type, 96, 48, transpose, MOBALAB_R48, "48", "49", "50", "51", "52", "53")  \
    MOBALAB_WGMMA(T, type, 128, 64, transpose, MOBALAB_R64, "64", "65", "66", "67", "68", "69") \
    MOBALAB_WGMMA(T, type, 256, 128, transpose, MOBALAB_R128, "128", "129", "130", "131", "132", "133")

MOBALAB_WGMMA_SHAPES(__nv_bfloat16, "bf16", 0)
MOBALAB_WGMMA_SHAPES(__nv_bfloat16, "bf16", 1)
MOBALAB_WGMMA_SHAPES(__half, "f16", 0)
MOBALAB_WGMMA_SHAPES(__half, "f16", 1)

#undef MOBALAB_WGMMA_SHAPES
#undef MOBALAB_WGMMA
#undef MOBALAB_R16
#undef MOBALAB_R32
#undef MOBALAB_R48
#undef MOBALAB_R64
#undef MOBALAB_R128
#undef MOBALAB_D8
#undef MOBALAB_D16
#undef MOBALAB_D32
#undef MOBALAB_D48
#undef MOBALAB_D64
#undef MOBALAB_D128

}  // namespace mobalab::kernels::cuda::ptx
