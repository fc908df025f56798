#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/cuda/forward/partial_store.cuh"
#include "kernels/cuda/forward/query_gather.cuh"
#include "kernels/cuda/forward/run_softmax.cuh"
#include "kernels/cuda/forward/run_tile.cuh"
#include "kernels/cuda/forward/unit_stream.cuh"
#include "kernels/cuda/forward/work_unit.cuh"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"

// Persistent, warp-specialised block_forward for Hopper.
//
// One producer warp draws units of work and loads keys and values (tensor copies, 128-byte swizzle, two stages). Three
// consumer warpgroups take the unit's tiles of 64 queries in turn. A consumer warp gathers its own 16 query rows: it
// asks for its next rows once the current ones are in registers, and needs no barrier with anyone for that. No
// accumulator outlives a tile, so the three warpgroups hide one another's latencies without being told to.
//
// Synchronisation
//   announced[n % 4]  unit n is described in units[n % 4], entries[n % 4]  producer and copy engine -> consumers
//   loaded[n % 2]     its keys and values are in stage n % 2           copy engine (or producer) -> consumers
//   released[n % 2]   every consumer thread is done with unit n        consumers -> producer
// Unit n is announced after the copies of unit n - 1 were issued, hence after every warp released unit n - 3: slot n %
// 4 is free then. A warp looks ahead for its next rows while it still holds unit n, but never past unit n + 2, whose
// announcement waits for releases of unit n - 1 only; so nobody waits for itself.
namespace mobalab::kernels::cuda {
namespace {

using namespace ptx;

constexpr int consumer_groups = 3;
constexpr int consumer_warps = 4 * consumer_groups;
constexpr int threads_per_block = 128 * (consumer_groups + 1);
constexpr int producer_registers = 32, consumer_registers = 160;
constexpr int stages = 2;

enum class Shapes {
    whole,  ///< blocks of whole runs
    parts,  ///< of 16 or 32 keys, several in a run
    any,    ///< whatever block size and, up to HeadDim, head_dim are
};

/// Tile: RunTile of a run.
template <typename Tile>
struct Shared {
    static constexpr int HeadDim = Tile::HeadDim;
    alignas(1024) std::byte k[stages][Tile::bytes];
    alignas(1024) std::byte v[stages][Tile::bytes];
    alignas(128) std::byte q[consumer_warps][16 * QueryRows<HeadDim>::pitch];
    UnitSlots slots;
    std::uint64_t loaded[stages];
    std::uint64_t released[stages];
    std::uint64_t tail_loaded;
};

/// box: keys that come with a copy.
template <typename Tile>
__device__ __forceinline__ void load_keys_and_values(Shared<Tile>& shared, int stage, const WorkUnit& unit,
                                                     const CUtensorMap& k_map, const CUtensorMap& v_map, int box,
                                                     std::uint64_t* barrier) {
    mbarrier_arrive_expect(barrier, 2 * Tile::row_bytes * box);
    copy_run<Tile>(shared.k[stage], k_map, unit.key_head, unit.key, barrier);
    copy_run<Tile>(shared.v[stage], v_map, unit.key_head, unit.key, barrier);
}

/// Where lists are shorter than a run, the rows of a stage that no copy writes: zeros for the products.
template <typename Tile>
__device__ __forceinline__ void clear_keys_behind_boxes(const BlockForwardArgs& args, Shared<Tile>& shared) {
    if (forward_box_keys(args.keys_per_list) == Tile::Keys) return;
    constexpr int pieces = stages * Tile::bytes / 16;
    for (int i = static_cast<int>(threadIdx.x); i < pieces; i += threads_per_block) {
        reinterpret_cast<uint4*>(shared.k)[i] = make_uint4(0, 0, 0, 0);
        reinterpret_cast<uint4*>(shared.v)[i] = make_uint4(0, 0, 0, 0);
    }
    fence_async_proxy();
}

template <typename Tile, Shapes S>
__device__ void produce(const BlockForwardArgs& args, Shared<Tile>& shared, const CUtensorMap& k_map,
                        const CUtensorMap& v_map, int lane) {
    const int count = unit_count(args);
    const int box = S == Shapes::any ? forward_box_keys(args.keys_per_list) : Tile::Keys;
    int drawn = lane == 0 ? atomicAdd(args.next_unit, 1) : 0;
    std::uint32_t tails = 0;
    for (std::uint32_t n = 0;;) {
        const int index = __shfl_sync(0xffffffffu, drawn, 0);
        if (index >= count) {
            if (lane == 0) announce_end(shared.slots, n % unit_slots);
            return;
        }
        if (lane == 0) drawn = atomicAdd(args.next_unit, 1);  // its latency passes behind this unit's
        const WorkUnit unit = make_unit<Tile::Keys>(args, index);
        if (unit.tiles == 0) continue;
        if (lane == 0) announce(args, shared.slots, n % unit_slots, unit);
        const std::uint32_t stage = n % stages;
        if (n >= stages) mbarrier_wait(&shared.released[stage], (n / stages - 1) & 1);
        const bool tail = unit.keys < box;
        if (lane == 0) {
            load_keys_and_values(shared, stage, unit, k_map, v_map, box,
                                 tail ? &shared.tail_loaded : &shared.loaded[stage]);
        }
        if (tail) {
            mbarrier_wait(&shared.tail_loaded, tails++ & 1);
            clear_rows_from<Tile>(shared.v[stage], unit.keys, lane);
            fence_async_proxy();
            __syncwarp();
            if (lane == 0) mbarrier_arrive(&shared.loaded[stage]);
        }
        ++n;
    }
}

/// Waiting for `loaded` first keeps a warp that has no tile in a unit from releasing it before the stage's previous
/// unit was released by all. Every lane has read the slots of the units, and arrives for itself: one arrival behind
/// __syncwarp() would do, but the race checker takes each thread's own alone.
template <typename Tile>
__device__ __forceinline__ void release_until(Shared<Tile>& shared, std::uint32_t& held, std::uint32_t end) {
    for (; held != end; ++held) {
        mbarrier_wait(&shared.loaded[held % stages], held / stages & 1);
        mbarrier_arrive(&shared.released[held % stages]);
    }
}

template <typename T, typename Tile, Shapes S>
__device__ void consume(const BlockForwardArgs& args, Shared<Tile>& shared, int warp, int lane) {
    constexpr int HeadDim = Tile::HeadDim, Keys = Tile::Keys;
    constexpr int steps = HeadDim / 16;
    const int group = warp / 4;

    Cursor<consumer_groups> cursor;
    std::uint32_t held = 0;  // first unit not released yet
    TileRows rows;
    std::uint32_t entry = 0;
    const auto seek = [&] {
        while (!cursor.on_tile()) {
            release_until(shared, held, cursor.unit + 1);
            cursor.next_unit(shared.slots, group);
        }
        release_until(shared, held, cursor.unit);
    };
    const auto gather = [&] {
        const std::uint32_t slot = cursor.unit % unit_slots;
        const WorkUnit& unit = shared.slots.units[slot];
        rows = tile_rows(unit, cursor.tile, warp % 4);
        entry = tile_entry(rows, shared.slots.entries[slot], unit.list_begin, lane % 16);
        gather_queries<HeadDim, S == Shapes::any>(unit.q_rows, args.q.stride.token, entry, shared.q[warp],
                                                  rows.limit - rows.first, lane, args.pieces);
        cp_async_commit();
    };

    seek();
    if (!cursor.stop) gather();
    while (!cursor.stop) {
        const std::uint32_t unit_number = cursor.unit, stage = unit_number % stages;
        const TileRows current = rows;
        const std::uint32_t current_entry = entry;

        cp_async_wait<0>();
        __syncwarp();
        std::uint32_t q[steps][4];
#pragma unroll
        for (int s = 0; s < steps; ++s) {
            ldmatrix_x4(q[s], shared.q[warp] + QueryRows<HeadDim>::offset(lane % 16, 2 * s + lane / 16));
        }

        mbarrier_wait(&shared.loaded[stage], unit_number / stages & 1);
        float scores[Keys / 2];
        const std::uint64_t k_tile = descriptor_k_major(shared.k[stage]);
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < steps; ++s) {
            Wgmma<T, Keys, false>::registers_a(
                scores, q[s], descriptor_advance(k_tile, s / 4 * Tile::panel_bytes + s % 4 * 32), s > 0);
        }
        wgmma_commit();
        // The queries are in registers: their place in shared memory is free for the next ones.
        cursor.tile += consumer_groups;
        while (!cursor.on_tile() && cursor.unit != unit_number + 2) {
            cursor.next_unit(shared.slots, group);
        }
        const bool ahead = cursor.on_tile();
        if (ahead && !cursor.stop) gather();
        wgmma_wait<0>();
        wgmma_keep(scores);

        if constexpr (S == Shapes::any) {
            if (current.own || args.block_size % Keys != 0 || !args.causal) {
                const WorkUnit& unit = shared.slots.unit(unit_number);
                visible_keys(args, unit, current.own, current_entry, lane).template apply<Keys / 8>(scores, 0);
            }
        } else if (current.own) {
            const ScoreMask mask = own_mask(shared.slots.unit(unit_number), current_entry, lane);
            mask.template apply_own<Keys / 8>(scores, 0, args.block_size, lane);
        } else if constexpr (S == Shapes::parts) {
            listed_mask<Keys>(current_entry, args.block_size, lane).template apply_selected<Keys / 8>(scores, 0);
        }
        std::uint32_t probabilities[Keys / 16][4];
        OnlineSoftmax softmax;
        softmax.first<T>(scores, args.scale_log2, probabilities);

        float out[HeadDim / 2];
        const std::uint64_t v_tile = descriptor_mn_major(shared.v[stage], Tile::panel_bytes);
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < Keys / 16; ++s) {
            Wgmma<T, HeadDim, true>::registers_a(out, probabilities[s], descriptor_advance(v_tile, s * 2048), s > 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
        wgmma_keep(out);

        const WorkUnit& unit = shared.slots.unit(unit_number);
        store_partials<T, HeadDim>(partial_target<HeadDim>(args.partials, unit, current.own), current, out,
                                   softmax.offset, softmax.sum, lane);
        if (ahead) {
            release_until(shared, held, cursor.unit);
        } else {
            seek();
            if (!cursor.stop) gather();
        }
    }
}

template <typename T, typename Tile, Shapes S>
__global__ void __launch_bounds__(threads_per_block, 1)
    block_forward_kernel(const __grid_constant__ BlockForwardArgs args, const __grid_constant__ CUtensorMap k_map,
                         const __grid_constant__ CUtensorMap v_map) {
    extern __shared__ std::byte dynamic[];
    const std::uint32_t misaligned = shared_address(dynamic) % 1024;
    Shared<Tile>& shared = *reinterpret_cast<Shared<Tile>*>(dynamic + (1024 - misaligned) % 1024);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;

    if (threadIdx.x == 0) {
        for (std::uint64_t& barrier : shared.slots.announced) mbarrier_init(&barrier, 1);
        for (std::uint64_t& barrier : shared.loaded) mbarrier_init(&barrier, 1);
        for (std::uint64_t& barrier : shared.released) mbarrier_init(&barrier, 32 * consumer_warps);
        mbarrier_init(&shared.tail_loaded, 1);
        fence_mbarrier_init();
        fence_async_proxy();
    }
    if constexpr (S == Shapes::any) clear_keys_behind_boxes(args, shared);
    __syncthreads();
    wait_for_previous_kernel();
    let_next_kernel_launch();
    if (warp >= consumer_warps) {
        set_registers_down<producer_registers>();
        if (warp == consumer_warps) produce<Tile, S>(args, shared, k_map, v_map, lane);
    } else {
        set_registers_up<consumer_registers>();
        consume<T, Tile, S>(args, shared, warp, lane);
    }
}

template <typename T, typename Tile, Shapes S>
Status launch(int multiprocessors, const BlockForwardArgs& args, const CUtensorMap& k_map, const CUtensorMap& v_map,
              cudaStream_t stream) {
    constexpr std::size_t bytes = sizeof(Shared<Tile>) + 1024;  // dynamic memory may begin anywhere
    static_assert(bytes <= 227 * 1024, "more than a thread block can have");
    static_assert(128 * (consumer_groups * consumer_registers + producer_registers) <= 65536);
    return launch_persistent("block_forward (wgmma)", block_forward_kernel<T, Tile, S>, multiprocessors,
                             threads_per_block, bytes, stream, args, k_map, v_map);
}

template <typename T, int HeadDim>
Status launch_shapes(int multiprocessors, const BlockForwardArgs& args, const CUtensorMap& k_map,
                     const CUtensorMap& v_map, cudaStream_t stream) {
    using Run = RunTile<HeadDim>;
    using ShortRun = RunTile<HeadDim, keys_per_short_run>;
    if (has_shapes_of_any(args)) return launch<T, Run, Shapes::any>(multiprocessors, args, k_map, v_map, stream);
    if (args.keys_per_list > keys_per_short_run) {
        return launch<T, Run, Shapes::whole>(multiprocessors, args, k_map, v_map, stream);
    }
    return args.block_size < keys_per_short_run
               ? launch<T, ShortRun, Shapes::parts>(multiprocessors, args, k_map, v_map, stream)
               : launch<T, ShortRun, Shapes::whole>(multiprocessors, args, k_map, v_map, stream);
}

}  // namespace

template <typename T>
Status launch_block_forward_wgmma(int width, int multiprocessors, const BlockForwardArgs& args,
                                  const CUtensorMap& k_map, const CUtensorMap& v_map, cudaStream_t stream) {
    switch (width) {
        case 32:
            return launch_shapes<T, 32>(multiprocessors, args, k_map, v_map, stream);
        case 64:
            return launch_shapes<T, 64>(multiprocessors, args, k_map, v_map, stream);
        case 96:
            return launch_shapes<T, 96>(multiprocessors, args, k_map, v_map, stream);
        default:
            return launch_shapes<T, 128>(multiprocessors, args, k_map, v_map, stream);
    }
}

}  // namespace mobalab::kernels::cuda
