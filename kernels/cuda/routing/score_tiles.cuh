#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/routing/route_work.cuh"
#include "kernels/cuda/routing/top_k_key.cuh"
#include "kernels/cuda/tile/elements.cuh"

// Scores as products on the tensor cores.
namespace mobalab::kernels::cuda {

/// Two elements: leaves max(q, 0) and gives min(q, 0); NaN stays in both.
template <typename T>
__device__ __forceinline__ void split_by_sign(std::uint32_t& positive, std::uint32_t& negative) {
    using P = typename Pair<T>::Type;
    const P zero = {from_float<T>(0.0f), from_float<T>(0.0f)};
    P q;
    memcpy(&q, &positive, sizeof(q));
    const P above = __hmax2_nan(q, zero), below = __hmin2_nan(q, zero);
    memcpy(&positive, &above, sizeof(above));
    memcpy(&negative, &below, sizeof(below));
}

/// The A fragments of a warp's 16 rows.
template <typename T, typename Shape>
struct QueryFragments {
    std::uint32_t a[Shape::steps][4];

    __device__ __forceinline__ void load(const unsigned char* queries, int warp_in_group, int lane) {
        const int row = warp_in_group * warp_rows + lane % 16;
#pragma unroll
        for (int step = 0; step < Shape::steps; ++step) {
            const int piece = 2 * (step % 4) + lane / 16;  // 16 bytes of the 128-byte swizzle
            ptx::ldmatrix_x4(a[step],
                             queries + step / 4 * Shape::query_panel_bytes + row * 128 + (piece ^ (row % 8)) * 16);
        }
    }

    /// Leaves max(q, 0) here and gives min(q, 0).
    __device__ __forceinline__ void split_by_sign(QueryFragments& negative) {
#pragma unroll
        for (int step = 0; step < Shape::steps; ++step) {
#pragma unroll
            for (int i = 0; i < 4; ++i) kernels::cuda::split_by_sign<T>(a[step][i], negative.a[step][i]);
        }
    }
};

/// Makes min(q, 0) of a warp's rows in shared memory, whose fragments have been loaded. Products read all rows of the
/// group next, so all four warps do this.
template <typename T, typename Shape>
__device__ __forceinline__ void keep_negative(unsigned char* queries, int group, int warp_in_group, int lane) {
    constexpr int row_bytes = 128, warp_bytes = warp_rows * row_bytes, access = sizeof(uint4);  // of a panel
    __syncwarp();
#pragma unroll
    for (int panel = 0; panel < Shape::panels; ++panel) {
#pragma unroll
        for (int at = 0; at < warp_bytes; at += 32 * access) {
            auto* q = reinterpret_cast<uint4*>(queries + panel * Shape::query_panel_bytes + warp_in_group * warp_bytes +
                                               at + lane * access);
            uint4 above = *q, below;
            split_by_sign<T>(above.x, below.x);
            split_by_sign<T>(above.y, below.y);
            split_by_sign<T>(above.z, below.z);
            split_by_sign<T>(above.w, below.w);
            *q = below;
        }
    }
    ptx::fence_async_proxy();
    ptx::named_barrier(1 + group, 128);
}

/// The tiles of centroids as one warp of a warpgroup sees them, and its scores of one tile.
template <typename T, typename Shape>
struct ScoreTiles {
    static constexpr int count = Shape::tile_blocks / 2;
    /// 64 registers of queries beside those of a survey would be too many: products then read queries from shared
    /// memory, all of them or, of two maps, the second.
    static constexpr bool few_registers = Shape::TopK::surveys;
    static constexpr int maps = Shape::scoring == Scoring::ranges ? 2 : 1;
    static_assert(maps == 1 || (Shape::Parts == 2 && Shape::HeadDim <= 128));
    static constexpr int maps_in_registers = maps * Shape::HeadDim <= 128 || !few_registers ? maps : maps - 1;
    /// Products read from shared memory until the item's last tile.
    static constexpr bool queries_stay = maps_in_registers < maps;

    float d[count];                       // as ptx::Wgmma writes it
    QueryFragments<T, Shape> queries[2];  // of each map in registers
    const unsigned char* shared_queries;  // of the warpgroup: those of the others
    RingIndex<Shape::CentroidStages> ring;
    int read[Shape::Parts];  // stages that the product under way reads
    /// Address of the centroids, from which those of their barriers follow: one register for all.
    std::uint32_t centroids;

    __device__ __forceinline__ explicit ScoreTiles(const RouteShared<Shape>& shared)
        : centroids(*static_cast<volatile const std::uint32_t*>(shared.centroids_address)) {}

    /// Takes the queries of an item, which have arrived in shared memory.
    __device__ __forceinline__ void load(unsigned char* arrived, int group, int warp_in_group, int lane) {
        if constexpr (maps_in_registers > 0) {
            queries[0].load(arrived, warp_in_group, lane);
            if constexpr (maps == 2) queries[0].split_by_sign(queries[1]);
            if constexpr (maps == 2 && queries_stay) keep_negative<T, Shape>(arrived, group, warp_in_group, lane);
        }
    }
    /// The next tile's descriptor, in uniform registers: it takes its time to get there, so it is asked for early.
    __device__ __forceinline__ std::uint64_t next() const {
        return uniform(ptx::descriptor_k_major(centroids + ring.stage * Shape::centroid_bytes));
    }
    /// Starts the product of that tile. Every warp of the warpgroup does the same.
    __device__ __forceinline__ void start(std::uint64_t first) {
        wait<0>();
        multiply<0>(first);
        if constexpr (Shape::Parts > 1) {
            const std::uint64_t second = next();
            wait<1>();
            multiply<1>(second);
        }
    }
    __device__ __forceinline__ void start() { start(next()); }
    /// Waits for that product and gives the centroids back.
    __device__ __forceinline__ void finish(int lane) {
        ptx::wgmma_wait<0>();
        ptx::wgmma_keep(d);
        __syncwarp();
#pragma unroll
        for (int part = 0; part < Shape::Parts; ++part) {
            ptx::mbarrier_arrive_if(lane == 0, barrier(read[part]) + 8 * Shape::CentroidStages);
        }
    }

private:
    /// Tells the compiler that a descriptor is the same in all lanes.
    static __device__ __forceinline__ std::uint64_t uniform(std::uint64_t descriptor) {
        const std::uint32_t low = __shfl_sync(full_warp, static_cast<std::uint32_t>(descriptor), 0);
        return (descriptor >> 32 << 32) | low;
    }
    /// Of a stage, full; the empty ones follow.
    __device__ __forceinline__ std::uint32_t barrier(int stage) const {
        return centroids + RouteShared<Shape>::full_after_centroids + 8 * stage;
    }
    /// For the centroids of the next tile or part.
    template <int Part>
    __device__ __forceinline__ void wait() {
        ptx::mbarrier_wait(barrier(ring.stage), ring.parity);
        read[Part] = ring.stage;
        ring.advance();
    }
    /// The first part overwrites d, the second is added.
    template <int Part>
    __device__ __forceinline__ void multiply(std::uint64_t b) {
        using Product = ptx::Wgmma<T, Shape::tile_blocks, false>;
        constexpr int map = Part % maps;
        constexpr bool in_registers = map < maps_in_registers;
        std::uint64_t a = 0;
        if constexpr (!in_registers) a = uniform(ptx::descriptor_k_major(shared_queries));
        ptx::wgmma_fence();
#pragma unroll
        for (int step = 0; step < Shape::steps; ++step) {
            const auto at = [&](std::uint64_t descriptor, int panel_bytes) {
                return ptx::descriptor_advance(descriptor, step / 4 * panel_bytes + step % 4 * 32);
            };
            const int accumulate = Part > 0 || step > 0 ? 1 : 0;
            if constexpr (in_registers) {
                Product::registers_a(d, queries[map].a[step], at(b, Shape::centroid_panel_bytes), accumulate);
            } else {
                Product::shared(d, at(a, Shape::query_panel_bytes), at(b, Shape::centroid_panel_bytes), accumulate);
            }
        }
        ptx::wgmma_commit();
    }
};

}  // namespace mobalab::kernels::cuda
