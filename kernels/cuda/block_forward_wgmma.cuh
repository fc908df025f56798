#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/block_forward.h"
#include "kernels/cuda/combine.cuh"
#include "kernels/cuda/partial_store.cuh"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/flag.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/query_gather.cuh"
#include "kernels/cuda/status.h"
#include "kernels/cuda/work_unit.cuh"

// Persistent, warp-specialised block_forward for Hopper, and the combination of its results in the same launch, so that
// partials are read before they leave L2 (WindowSchedule).
//
// One producer warp draws units of work and loads keys and values (tensor copies, 128-byte swizzle, two stages). Three
// consumer warpgroups take the unit's tiles of 64 queries in turn. A consumer warp gathers its own 16 query rows: it
// asks for its next rows once the current ones are in registers, and needs no barrier with anyone for that. No
// accumulator outlives a tile, so the three warpgroups hide one another's latencies without being told to.
//
// Synchronisation within a thread block
//   announced[n % 4]  unit n is described in units[n % 4], entries[n % 4]  producer and copy engine -> consumers
//   loaded[n % 2]     its keys and values are in stage n % 2           copy engine (or producer) -> consumers
//   released[n % 2]   every consumer warp is done with unit n          consumers -> producer
// Unit n is announced after the copies of unit n - 1 were issued, hence after every warp released unit n - 3: slot n %
// 4 is free then. A warp looks ahead for its next rows while it still holds unit n, but never past unit n + 2, and
// without waiting for an announcement: the producer may be waiting for this very unit.
//
// Synchronisation between thread blocks
//   forwarded[w]      units of window w that are done; the producer raises it once a unit is released, also while it
//                     waits for `combined`
//   complete          in shared memory: windows whose units are all done; a warp of its own watches `forwarded`
//   joined[w % slots] every consumer warp has combined its share of window w; another warp then raises combined[w]
//   combined[w]       thread blocks that have combined window w; the producer waits for it before it announces a unit
//   of
//                     window w + slots
// Consumers combine between tiles and while nothing is announced, and never wait for other thread blocks otherwise, so
// all units that are announced are done. Everybody must be resident: a cooperative launch.
namespace mobalab::kernels::cuda {
namespace {

using namespace ptx;

constexpr int consumer_groups = 3;
constexpr int consumer_warps = 4 * consumer_groups;
constexpr int threads_per_block = 128 * (consumer_groups + 1);
constexpr int producer_registers = 56, consumer_registers = 152;
constexpr int stages = 2;
constexpr int unit_slots = 4;
constexpr int panel_columns = 64;  // 128 bytes: the widest row of the swizzle
constexpr int panel_bytes = keys_per_run * panel_columns * 2;

template <int HeadDim>
struct Shared {
    static constexpr int panels = (HeadDim + panel_columns - 1) / panel_columns;  // the last one padded with zeros
    static constexpr int tile_bytes = panels * panel_bytes;

    alignas(1024) std::byte k[stages][tile_bytes];
    alignas(1024) std::byte v[stages][tile_bytes];
    alignas(128) std::byte q[consumer_warps][16 * QueryRows<HeadDim>::pitch];
    alignas(16) std::uint32_t entries[unit_slots][max_tiles_per_item * rows_per_tile];
    WorkUnit units[unit_slots];
    std::uint64_t announced[unit_slots];
    std::uint64_t loaded[stages];
    std::uint64_t released[stages];
    std::uint64_t tail_loaded;
    std::uint64_t joined[max_window_slots];
    std::int32_t complete;
    std::int32_t published;
};

template <int HeadDim>
constexpr std::size_t shared_bytes = sizeof(Shared<HeadDim>) + 1024;  // dynamic memory may begin anywhere

/// The unit's description and list entries: consumers must not wait for global memory to learn whom to gather.
template <int HeadDim>
__device__ __forceinline__ void announce(const BlockForwardArgs& args, Shared<HeadDim>& shared, int slot,
                                         const WorkUnit& unit) {
    shared.units[slot] = unit;
    const int rows = unit.list_end - unit.list_begin;
    if (rows == 0) {
        mbarrier_arrive(&shared.announced[slot]);
        return;
    }
    const std::uint32_t bytes = static_cast<std::uint32_t>(rows + 3) / 4 * 16;  // lists are padded to whole tiles
    mbarrier_arrive_expect(&shared.announced[slot], bytes);
    bulk_load(shared.entries[slot], args.lists.entries + unit.list_begin, bytes, &shared.announced[slot]);
}

template <int HeadDim>
__device__ __forceinline__ void load_keys_and_values(Shared<HeadDim>& shared, int stage, const WorkUnit& unit,
                                                     const CUtensorMap& k_map, const CUtensorMap& v_map,
                                                     std::uint64_t policy, std::uint64_t* barrier) {
    mbarrier_arrive_expect(barrier, 2 * Shared<HeadDim>::tile_bytes);
#pragma unroll
    for (int p = 0; p < Shared<HeadDim>::panels; ++p) {
        tensor_load_3d(shared.k[stage] + p * panel_bytes, &k_map, p * panel_columns, unit.key_head, unit.key_token,
                       barrier, policy);
    }
#pragma unroll
    for (int p = 0; p < Shared<HeadDim>::panels; ++p) {
        tensor_load_3d(shared.v[stage] + p * panel_bytes, &v_map, p * panel_columns, unit.key_head, unit.key_token,
                       barrier, policy);
    }
}

/// Values past the end of the sequence belong to the next one: 0 * inf must not reach this one.
template <int HeadDim>
__device__ __forceinline__ void clear_values_from(Shared<HeadDim>& shared, int stage, int keys, int lane) {
    const int pieces = (keys_per_run - keys) * (panel_columns * 2 / 16);
    for (int p = 0; p < Shared<HeadDim>::panels; ++p) {
        uint4* const panel = reinterpret_cast<uint4*>(shared.v[stage] + p * panel_bytes + keys * panel_columns * 2);
        for (int i = lane; i < pieces; i += 32) {
            panel[i] = make_uint4(0, 0, 0, 0);
        }
    }
}

/// Raises the counters of units in their order as they are released.
template <int HeadDim>
class Publisher {
public:
    __device__ __forceinline__ explicit Publisher(Shared<HeadDim>& shared) : shared_(shared) {}

    __device__ __forceinline__ void wait_and_publish() {
        mbarrier_wait(released(), next_ / stages & 1);
        publish();
    }
    /// Unit `end` is not announced yet.
    __device__ __forceinline__ void publish_released(std::uint32_t end) {
        while (next_ != end && mbarrier_test(released(), next_ / stages & 1)) publish();
    }
    __device__ __forceinline__ std::uint32_t next() const { return next_; }

private:
    __device__ __forceinline__ std::uint64_t* released() const { return &shared_.released[next_ % stages]; }
    __device__ __forceinline__ void publish() {
        add_release(shared_.units[next_ % unit_slots].done);
        store_release_shared(&shared_.published, static_cast<std::int32_t>(++next_));
    }

    Shared<HeadDim>& shared_;
    std::uint32_t next_ = 0;
};

/// One warp: draws units and announces them as soon as they may be done.
template <int HeadDim>
__device__ void draw(const BlockForwardArgs& args, Shared<HeadDim>& shared, int lane) {
    const int count = __ldg(args.lists.item_count) * args.partials.runs;
    int drawn = lane == 0 ? atomicAdd(args.schedule.next_unit, 1) : 0;
    int window = -1, window_end = 0;  // units of the chunk up to that window's last
    for (std::int32_t n = 0;;) {
        const int index = __shfl_sync(full_warp, drawn, 0);
        const int slot = n % unit_slots;
        while (load_acquire_shared(&shared.published) + unit_slots <= n) {
        }
        __syncwarp();
        if (index >= count) {
            if (lane != 0) return;
            shared.units[slot].tiles = -1;
            mbarrier_arrive(&shared.announced[slot]);
            return;
        }
        if (lane == 0) drawn = atomicAdd(args.schedule.next_unit, 1);  // its latency passes behind this unit's
        if (index >= window_end) {
#pragma unroll 1
            while (index >= window_end) {
                window_end = __ldg(args.lists.window_items + ++window + 1) * args.partials.runs;
            }
            if (window >= args.partials.slots) {
                const std::int32_t* const combined = args.schedule.combined + window - args.partials.slots;
                while (load_acquire(combined) < static_cast<int>(gridDim.x)) {
                }
            }
        }
        const WorkUnit unit = make_unit(args, index, window);
        if (unit.tiles == 0 || unit.keys <= 0) {
            if (lane == 0) add_release(unit.done);
            continue;
        }
        if (lane == 0) announce(args, shared, slot, unit);
        ++n;
    }
}

/// One warp: loads the keys and values of announced units, publishes released units.
template <int HeadDim>
__device__ void load(const BlockForwardArgs& args, Shared<HeadDim>& shared, const CUtensorMap& k_map,
                     const CUtensorMap& v_map, int lane) {
    Publisher<HeadDim> publisher(shared);
    std::uint32_t tails = 0;
    for (std::uint32_t n = 0;; ++n) {
        const WorkUnit& unit = shared.units[n % unit_slots];
        const std::uint32_t stage = n % stages;
        if (lane == 0) {
            while (!mbarrier_test(&shared.announced[n % unit_slots], n / unit_slots & 1)) publisher.publish_released(n);
        }
        __syncwarp();
        if (unit.tiles < 0) {
            if (lane == 0) {
                while (publisher.next() != n) publisher.wait_and_publish();
            }
            return;
        }
        const bool tail = unit.keys < keys_per_run;
        if (lane == 0) {
            if (publisher.next() + stages <= n) mbarrier_wait(&shared.released[stage], (n / stages - 1) & 1);
            load_keys_and_values(shared, stage, unit, k_map, v_map,
                                 args.keys_evict_first ? policy_evict_first() : policy_evict_normal(),
                                 tail ? &shared.tail_loaded : &shared.loaded[stage]);
            publisher.publish_released(n);
        }
        if (tail) {
            __syncwarp();
            mbarrier_wait(&shared.tail_loaded, tails++ & 1);
            clear_values_from(shared, stage, unit.keys, lane);
            fence_async_proxy();
            __syncwarp();
            if (lane == 0) mbarrier_arrive(&shared.loaded[stage]);
        }
    }
}

/// One thread: tells the thread block which windows are complete.
template <int HeadDim>
__device__ void watch(const BlockForwardArgs& args, Shared<HeadDim>& shared) {
#pragma unroll 1
    for (int window = 0; window < args.schedule.windows; ++window) {
        const int units = units_of_window(args, window);
        while (load_acquire(args.schedule.forwarded + window) < units) __nanosleep(100);
        store_release_shared(&shared.complete, window + 1);
    }
}

/// One thread: tells the other thread blocks which windows this one has combined.
template <int HeadDim>
__device__ void report(const BlockForwardArgs& args, Shared<HeadDim>& shared) {
    const int slots = args.partials.slots;
#pragma unroll 1
    for (int window = 0; window < args.schedule.windows; ++window) {
        mbarrier_wait(&shared.joined[window % slots], window / slots & 1);
        add_release(args.schedule.combined + window);
    }
}

/// A consumer warp's place in the sequence of units. The tiles of all units are dealt to the warpgroups in turn.
struct Cursor {
    std::uint32_t unit = ~0u;  ///< the one before unit 0
    int tiles = 0;
    int tile = 0;
    int dealt = 0;  ///< tiles of all units before this one, mod consumer_groups
    bool stop = false;

    __device__ __forceinline__ bool on_tile() const { return stop || tile < tiles; }
};

/// False when the next unit is not announced yet. Consumers must not wait for it: other thread blocks may be waiting
/// for their share of a combination.
template <int HeadDim>
__device__ __forceinline__ bool next_unit(Shared<HeadDim>& shared, Cursor& cursor, int group) {
    const std::uint32_t next = cursor.unit + 1, slot = next % unit_slots;
    if (!__all_sync(full_warp, mbarrier_test(&shared.announced[slot], next / unit_slots & 1))) return false;
    cursor.dealt = (cursor.dealt + cursor.tiles) % consumer_groups;
    cursor.unit = next;
    cursor.tiles = shared.units[slot].tiles;
    cursor.stop = cursor.tiles < 0;
    const int ahead = group - cursor.dealt;
    cursor.tile = ahead < 0 ? ahead + consumer_groups : ahead;
    return true;
}

/// Waiting for `loaded` first keeps a warp that has no tile in a unit from releasing it before the stage's previous
/// unit was released by all. What the warp wrote is then the thread block's.
template <int HeadDim>
__device__ __forceinline__ void release_until(Shared<HeadDim>& shared, std::uint32_t& held, std::uint32_t end,
                                              int lane) {
    __syncwarp();
    for (; held != end; ++held) {
        mbarrier_wait(&shared.loaded[held % stages], held / stages & 1);
        if (lane == 0) mbarrier_arrive(&shared.released[held % stages]);
    }
}

/// scores -> probabilities relative to the row's maximum, packed as A fragments; offset and sum per row.
template <typename T>
__device__ __forceinline__ void softmax(float (&scores)[64], float scale_log2, std::uint32_t (&probabilities)[8][4],
                                        float (&offset)[2], float (&sum)[2]) {
    // Two chains a row: what bounds a warp here is the latency of dependent instructions.
    float highest[2][2], added[2][2] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        highest[i / 2][i % 2] = fmaxf(scores[i], scores[i + 4]);
    }
#pragma unroll
    for (int i = 8; i < 64; ++i) {
        highest[i / 2 % 2][i % 2] = fmaxf(highest[i / 2 % 2][i % 2], scores[i]);
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const float maximum = quad_max(fmaxf(highest[h][0], highest[h][1]));
        offset[h] = maximum == -INFINITY ? 0.0f : maximum * scale_log2;
    }
#pragma unroll
    for (int i = 0; i < 64; ++i) {
        scores[i] = exp2_approx(fmaf(scores[i], scale_log2, -offset[i / 2 % 2]));
        added[i / 2 % 2][i % 2] += scores[i];
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        sum[h] = quad_sum(added[h][0] + added[h][1]);
    }
#pragma unroll
    for (int s = 0; s < 8; ++s) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            probabilities[s][r] = pack<T>(scores[8 * s + 2 * r], scores[8 * s + 2 * r + 1]);
        }
    }
}

template <typename T, int HeadDim, bool Blocks>
__device__ void consume(const BlockForwardArgs& args, Shared<HeadDim>& shared, int warp, int lane) {
    constexpr int steps = HeadDim / 16;
    const int group = warp / 4;

    Cursor cursor;
    std::uint32_t held = 0;  // first unit not released yet
    TileRows rows;
    std::uint32_t entry = 0;
    int combined = 0;  // windows
    const auto gather = [&] {
        const std::uint32_t slot = cursor.unit % unit_slots;
        const WorkUnit& unit = shared.units[slot];
        rows = tile_rows(unit, cursor.tile, warp % 4);
        entry = tile_entry(rows, shared.entries[slot], unit.list_begin, lane % 16);
        gather_queries<HeadDim>(unit.q_rows, args.q_stride_token, entry, shared.q[warp], rows.limit - rows.first, lane);
        cp_async_commit();
    };

    bool gathered = false;  // the tile at the cursor
    while (true) {
        if (combined < __shfl_sync(full_warp, load_acquire_shared(&shared.complete), 0)) {
            // Shares differ by a step; their owners change from window to window.
            const int warps = static_cast<int>(gridDim.x) * consumer_warps;
            const int rank =
                (warp * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x) + combined * 997) % warps;
            combine_share<T, HeadDim>(args, combined, rank, warps, lane);
            __syncwarp();
            if (lane == 0) mbarrier_arrive(&shared.joined[combined % args.partials.slots]);
            ++combined;
        }
        if (!gathered) {
            while (!cursor.on_tile()) {
                release_until(shared, held, cursor.unit + 1, lane);
                if (!next_unit(shared, cursor, group)) break;
            }
            if (!cursor.on_tile()) continue;
            release_until(shared, held, cursor.unit, lane);
            if (!cursor.stop) gather();
            gathered = true;
        }
        if (cursor.stop) {
            if (combined == args.schedule.windows) return;
            continue;
        }
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
        float scores[64];
        const std::uint64_t k_tile = descriptor_k_major(shared.k[stage]);
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < steps; ++s) {
            Wgmma<T, keys_per_run, false>::registers_a(
                scores, q[s], descriptor_advance(k_tile, s / 4 * panel_bytes + s % 4 * 32), s > 0);
        }
        wgmma_commit();
        // The queries are in registers: their place in shared memory is free for the next ones.
        cursor.tile += consumer_groups;
        while (!cursor.on_tile() && cursor.unit != unit_number + 2 && next_unit(shared, cursor, group)) {
        }
        gathered = cursor.on_tile();
        if (gathered && !cursor.stop) gather();
        wgmma_wait<0>();
        wgmma_keep(scores);

        if (current.own) {
            const ScoreMask mask = own_mask(shared.units[unit_number % unit_slots], current_entry, lane);
            mask.apply_own<16>(scores, 0, args.block_size, lane);
        } else if constexpr (Blocks) {
            listed_mask(current_entry, args.block_size, lane).template apply_selected<16>(scores, 0);
        }
        std::uint32_t probabilities[8][4];
        float offset[2], sum[2];
        softmax<T>(scores, args.scale_log2, probabilities, offset, sum);

        float out[HeadDim / 2];
        const std::uint64_t v_tile = descriptor_mn_major(shared.v[stage], panel_bytes);
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < 8; ++s) {
            Wgmma<T, HeadDim, true>::registers_a(out, probabilities[s], descriptor_advance(v_tile, s * 2048), s > 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
        wgmma_keep(out);

        const WorkUnit& unit = shared.units[unit_number % unit_slots];
        store_partials<T, HeadDim>(partial_target<HeadDim>(args.partials, unit, current.own), current, out, offset, sum,
                                   lane);
        if (gathered) release_until(shared, held, cursor.unit, lane);
    }
}

template <typename T, int HeadDim, bool Blocks>
__global__ void __launch_bounds__(threads_per_block, 1)
    block_forward_kernel(const __grid_constant__ BlockForwardArgs args, const __grid_constant__ CUtensorMap k_map,
                         const __grid_constant__ CUtensorMap v_map) {
    extern __shared__ std::byte dynamic[];
    const std::uint32_t misaligned = shared_address(dynamic) % 1024;
    Shared<HeadDim>& shared = *reinterpret_cast<Shared<HeadDim>*>(dynamic + (1024 - misaligned) % 1024);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;

    if (threadIdx.x == 0) {
        for (std::uint64_t& barrier : shared.announced) mbarrier_init(&barrier, 1);
        for (std::uint64_t& barrier : shared.loaded) mbarrier_init(&barrier, 1);
        for (std::uint64_t& barrier : shared.released) mbarrier_init(&barrier, consumer_warps);
        for (std::uint64_t& barrier : shared.joined) mbarrier_init(&barrier, consumer_warps);
        mbarrier_init(&shared.tail_loaded, 1);
        shared.complete = shared.published = 0;
        fence_mbarrier_init();
        fence_async_proxy();
    }
    __syncthreads();
    if (warp >= consumer_warps) {
        set_registers_down<producer_registers>();
        if (warp == consumer_warps) draw<HeadDim>(args, shared, lane);
        if (warp == consumer_warps + 1) load<HeadDim>(args, shared, k_map, v_map, lane);
        if (warp == consumer_warps + 2 && lane == 0) watch<HeadDim>(args, shared);
        if (warp == consumer_warps + 3 && lane == 0) report<HeadDim>(args, shared);
    } else {
        set_registers_up<consumer_registers>();
        consume<T, HeadDim, Blocks>(args, shared, warp, lane);
    }
}

template <typename T, int HeadDim, bool Blocks>
Status launch(int multiprocessors, const BlockForwardArgs& args, const CUtensorMap& k_map, const CUtensorMap& v_map,
              cudaStream_t stream) {
    static_assert(shared_bytes<HeadDim> <= 227 * 1024, "more than a thread block can have");
    static_assert(128 * (consumer_groups * consumer_registers + producer_registers) <= 65536);
    const auto kernel = block_forward_kernel<T, HeadDim, Blocks>;
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(shared_bytes<HeadDim>));
    if (error != cudaSuccess) return device_status(error, "block_forward (wgmma)");
    cudaLaunchAttribute cooperative{};
    cooperative.id = cudaLaunchAttributeCooperative;
    cooperative.val.cooperative = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(multiprocessors));
    config.blockDim = dim3(threads_per_block);
    config.dynamicSmemBytes = shared_bytes<HeadDim>;
    config.stream = stream;
    config.attrs = &cooperative;
    config.numAttrs = 1;
    return device_status(cudaLaunchKernelEx(&config, kernel, args, k_map, v_map), "block_forward (wgmma)");
}

template <typename T, int HeadDim>
Status launch_blocks(int multiprocessors, const BlockForwardArgs& args, const CUtensorMap& k_map,
                     const CUtensorMap& v_map, cudaStream_t stream) {
    return args.block_size < keys_per_run ? launch<T, HeadDim, true>(multiprocessors, args, k_map, v_map, stream)
                                          : launch<T, HeadDim, false>(multiprocessors, args, k_map, v_map, stream);
}

}  // namespace

template <typename T>
Status launch_block_forward_wgmma(int head_dim, int multiprocessors, const BlockForwardArgs& args,
                                  const CUtensorMap& k_map, const CUtensorMap& v_map, cudaStream_t stream) {
    switch (head_dim) {
        case 32:
            return launch_blocks<T, 32>(multiprocessors, args, k_map, v_map, stream);
        case 64:
            return launch_blocks<T, 64>(multiprocessors, args, k_map, v_map, stream);
        case 96:
            return launch_blocks<T, 96>(multiprocessors, args, k_map, v_map, stream);
        default:
            return launch_blocks<T, 128>(multiprocessors, args, k_map, v_map, stream);
    }
}

}  // namespace mobalab::kernels::cuda
