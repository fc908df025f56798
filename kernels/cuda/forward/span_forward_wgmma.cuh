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
#include "kernels/cuda/tile/computed_here.cuh"

// block_forward for blocks of more than one run: a unit of work has a *span*, two runs of 128 keys, and leaves one
// partial for both. Half the partials of the kernel of single runs, and queries are gathered once for both.
//
// Persistent and warp-specialised like that one (block_forward_wgmma.cuh). Two consumer warpgroups have the registers
// for the scores of two runs: those of the second are computed under the softmax of the first, and the product with the
// first run's values under the softmax of the second.
//
// Keys and values of a span are four *pieces*, each given back when its product is done, in the order in which the
// producer loads those of the next unit: at width 128 there is room for one span only, and the next one arrives under
// the last tiles of this one.
//
// Synchronisation
//   announced[n % 4]           unit n is described in its slot            producer and copy engine -> consumers
//   loaded[n % stages][p]      its piece p is in stage n % stages         copy engine (or producer) -> consumers
//   released[n % stages][p]    every consumer thread is done with it      consumers -> producer
// Unit n is announced after the copies of unit n - 1 were issued, hence after every warp released unit n - 1 - stages.
// A warp that holds unit n looks ahead for its next rows up to unit n + stages, whose announcement waits for releases
// of unit n - 1 only; so nobody waits for itself.
namespace mobalab::kernels::cuda {
namespace {

using namespace ptx;

constexpr int consumer_groups = 2;
constexpr int consumer_warps = 4 * consumer_groups;
constexpr int threads_per_block = 128 * (consumer_groups + 1);
constexpr int producer_registers = 40, consumer_registers = 232;
constexpr int entry_registers = 168;  // of each thread, the most of 65536 for so many, before they divide them anew
constexpr int runs_per_span = keys_per_span / keys_per_run;
constexpr int pieces_per_span = 2 * runs_per_span;

__host__ __device__ constexpr int key_piece(int run) {
    return run;
}
__host__ __device__ constexpr int value_piece(int run) {
    return runs_per_span + run;
}

template <int HeadDim>
struct SpanShared {
    static constexpr int stages = HeadDim <= 64 ? 2 : 1;

    alignas(1024) std::byte pieces[stages][pieces_per_span][RunTile<HeadDim>::bytes];
    alignas(128) std::byte q[consumer_warps][16 * QueryRows<HeadDim>::pitch];
    UnitSlots slots;
    std::uint64_t loaded[stages][pieces_per_span];
    std::uint64_t released[stages][pieces_per_span];
    std::uint64_t tail_loaded;

    __device__ __forceinline__ const std::byte* piece(std::uint32_t unit, int piece) const {
        return pieces[unit % stages][piece];
    }
    __device__ __forceinline__ void wait_loaded(std::uint32_t unit, int piece) {
        mbarrier_wait(&loaded[unit % stages][piece], unit / stages & 1);
    }
    /// Every lane arrives for itself. Waiting for `loaded` keeps one that has not used the piece from releasing it
    /// before the stage's previous unit was released by all.
    __device__ __forceinline__ void release(std::uint32_t unit, int piece) {
        wait_loaded(unit, piece);
        mbarrier_arrive(&released[unit % stages][piece]);
    }
    /// Units [held, end).
    __device__ __forceinline__ void release_until(std::uint32_t& held, std::uint32_t end) {
        for (; held != end; ++held) {
            for (int p = 0; p < pieces_per_span; ++p) release(held, p);
        }
    }
};

/// The producer warp's part of a piece; `tails` counts the pieces that needed zeros.
template <int HeadDim>
__device__ __forceinline__ void load_piece(SpanShared<HeadDim>& shared, const WorkUnit& unit, std::uint32_t stage,
                                           int piece, const CUtensorMap& map, std::uint32_t& tails, int lane) {
    const int run = piece % runs_per_span, keys = unit.keys - run * keys_per_run;
    std::uint64_t* const loaded = &shared.loaded[stage][piece];
    if (run > 0 && keys <= 0) {  // nobody looks at it
        if (lane == 0) mbarrier_arrive(loaded);
        return;
    }
    const bool tail = piece >= value_piece(0) && keys < keys_per_run;
    std::byte* const tile = shared.pieces[stage][piece];
    if (lane == 0) {
        std::uint64_t* const barrier = tail ? &shared.tail_loaded : loaded;
        mbarrier_arrive_expect(barrier, RunTile<HeadDim>::bytes);
        copy_run<RunTile<HeadDim>>(tile, map, unit.key_head, unit.key.from(run * keys_per_run), barrier);
    }
    if (!tail) return;
    mbarrier_wait(&shared.tail_loaded, tails++ & 1);
    clear_rows_from<RunTile<HeadDim>>(tile, keys, lane);
    fence_async_proxy();
    __syncwarp();
    if (lane == 0) mbarrier_arrive(loaded);
}

template <int HeadDim>
__device__ void produce(const BlockForwardArgs& args, SpanShared<HeadDim>& shared, const CUtensorMap& k_map,
                        const CUtensorMap& v_map, int lane) {
    constexpr int stages = SpanShared<HeadDim>::stages;
    const int count = unit_count(args);
    int drawn = lane == 0 ? atomicAdd(args.next_unit, 1) : 0;
    std::uint32_t tails = 0;
    for (std::uint32_t n = 0;;) {
        const int index = __shfl_sync(0xffffffffu, drawn, 0);
        if (index >= count) {
            if (lane == 0) announce_end(shared.slots, n % unit_slots);
            return;
        }
        if (lane == 0) drawn = atomicAdd(args.next_unit, 1);  // its latency passes behind this unit's
        const WorkUnit unit = make_unit<keys_per_span>(args, index);
        if (unit.tiles == 0) continue;
        if (lane == 0) announce(args, shared.slots, n % unit_slots, unit);
#pragma unroll 1
        for (int piece = 0; piece < pieces_per_span; ++piece) {
            const std::uint32_t stage = n % stages;
            if (n >= stages) mbarrier_wait(&shared.released[stage][piece], (n / stages - 1) & 1);
            load_piece(shared, unit, stage, piece, piece < value_piece(0) ? k_map : v_map, tails, lane);
        }
        ++n;
    }
}

/// Whether a row of the tile sees a key of the second run; tiles of the own queries of the first run do not pay for it.
__device__ __forceinline__ bool sees_second_run(const WorkUnit& unit, int tile) {
    if (unit.keys <= keys_per_run) return false;
    if (tile >= unit.own_tiles) return true;
    const int last = min(unit.own_begin + (tile + 1) * rows_per_tile, unit.own_end) - 1;
    return last - unit.diagonal >= keys_per_run;
}

/// -inf for the keys of a run that a row of a warp's share of the tile does not see.
__device__ __forceinline__ void hide_keys(const WorkUnit& unit, int tile, int warp, int run, int lane,
                                          float (&scores)[keys_per_run / 2]) {
    const bool own = tile < unit.own_tiles;
    const int keys = unit.keys - run * keys_per_run;
    if (!own && keys >= keys_per_run) return;
    const TileRows rows = tile_rows(unit, tile, warp % 4);
    VisibleKeys visible;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int row = min(rows.first + lane / 4 + 8 * h, rows.limit - 1);
        const int seen = own ? row - unit.diagonal + 1 - run * keys_per_run : keys;
        visible.row[h] = keys_before(min(max(seen, 0), keys_per_run), lane);
    }
    visible.apply<keys_per_run / 8>(scores, 0);
}

template <typename T, int HeadDim>
__device__ __forceinline__ void multiply_keys(const std::byte* keys, const std::uint32_t (&q)[HeadDim / 16][4],
                                              float (&scores)[keys_per_run / 2]) {
    const std::uint64_t tile = descriptor_k_major(keys);
    wgmma_fence();
#pragma unroll
    for (int s = 0; s < HeadDim / 16; ++s) {
        Wgmma<T, keys_per_run, false>::registers_a(
            scores, q[s], descriptor_advance(tile, s / 4 * RunTile<HeadDim>::panel_bytes + s % 4 * 32), s > 0);
    }
    wgmma_commit();
}

/// out (+)= probabilities * values.
template <typename T, int HeadDim>
__device__ __forceinline__ void multiply_values(const std::byte* values,
                                                const std::uint32_t (&probabilities)[keys_per_run / 16][4],
                                                float (&out)[HeadDim / 2], bool accumulate) {
    const std::uint64_t tile = descriptor_mn_major(values, RunTile<HeadDim>::panel_bytes);
    wgmma_fence();
#pragma unroll
    for (int s = 0; s < keys_per_run / 16; ++s) {
        Wgmma<T, HeadDim, true>::registers_a(out, probabilities[s], descriptor_advance(tile, s * 2048),
                                             accumulate || s > 0);
    }
    wgmma_commit();
}

template <typename T, int HeadDim>
__device__ void consume(const BlockForwardArgs& args, SpanShared<HeadDim>& shared, int warp, int lane) {
    constexpr int steps = HeadDim / 16;
    const int group = warp / 4;

    Cursor<consumer_groups> cursor;
    std::uint32_t held = 0;  // first unit not released yet
    const auto seek = [&] {
        while (!cursor.on_tile()) {
            shared.release_until(held, cursor.unit + 1);
            cursor.next_unit(shared.slots, group);
        }
        shared.release_until(held, cursor.unit);
    };
    const auto gather = [&] {
        const std::uint32_t slot = cursor.unit % unit_slots;
        const WorkUnit& unit = shared.slots.units[slot];
        const TileRows rows = tile_rows(unit, cursor.tile, warp % 4);
        const std::uint32_t entry = tile_entry(rows, shared.slots.entries[slot], unit.list_begin, lane % 16);
        gather_queries<HeadDim, true>(unit.q_rows, args.q.stride.token, entry, shared.q[warp], rows.limit - rows.first,
                                      computed_here(lane), args.pieces);
        cp_async_commit();
    };

    seek();
    if (!cursor.stop) gather();
    while (!cursor.stop) {
        const std::uint32_t unit_number = cursor.unit;
        const int tile = cursor.tile;
        const WorkUnit& unit = shared.slots.unit(unit_number);

        cp_async_wait<0>();
        __syncwarp();
        std::uint32_t q[steps][4];
        const int here = computed_here(lane);
#pragma unroll
        for (int s = 0; s < steps; ++s) {
            ldmatrix_x4(q[s], shared.q[warp] + QueryRows<HeadDim>::offset(here % 16, 2 * s + here / 16));
        }
        // The queries are in registers: their place in shared memory is free for the next ones.
        const auto look_ahead = [&] {
            cursor.tile += consumer_groups;
            while (!cursor.on_tile() && cursor.unit != unit_number + SpanShared<HeadDim>::stages) {
                cursor.next_unit(shared.slots, group);
            }
            if (cursor.on_tile() && !cursor.stop) gather();
        };
        const auto release_after_last_tile = [&](int piece) {
            if (cursor.unit != unit_number) shared.release(unit_number, piece);
        };

        OnlineSoftmax softmax;
        float scores[keys_per_run / 2], out[HeadDim / 2];
        std::uint32_t probabilities[keys_per_run / 16][4];
        shared.wait_loaded(unit_number, key_piece(0));
        multiply_keys<T, HeadDim>(shared.piece(unit_number, key_piece(0)), q, scores);
        if (sees_second_run(unit, tile)) {
            float next_scores[keys_per_run / 2], rescale[2];
            std::uint32_t next_probabilities[keys_per_run / 16][4];
            shared.wait_loaded(unit_number, key_piece(1));
            multiply_keys<T, HeadDim>(shared.piece(unit_number, key_piece(1)), q, next_scores);
            look_ahead();
            wgmma_wait<1>();
            wgmma_keep(scores);
            release_after_last_tile(key_piece(0));
            hide_keys(unit, tile, warp, 0, lane, scores);
            softmax.first<T>(scores, args.scale_log2, probabilities);

            shared.wait_loaded(unit_number, value_piece(0));
            multiply_values<T, HeadDim>(shared.piece(unit_number, value_piece(0)), probabilities, out, false);
            wgmma_wait<1>();
            wgmma_keep(next_scores);
            release_after_last_tile(key_piece(1));
            hide_keys(unit, tile, warp, 1, lane, next_scores);
            softmax.next<T>(next_scores, args.scale_log2, next_probabilities, rescale);

            wgmma_wait<0>();
            wgmma_keep(out);
            release_after_last_tile(value_piece(0));
#pragma unroll
            for (int i = 0; i < HeadDim / 2; ++i) out[i] *= rescale[i / 2 % 2];
            shared.wait_loaded(unit_number, value_piece(1));
            multiply_values<T, HeadDim>(shared.piece(unit_number, value_piece(1)), next_probabilities, out, true);
            wgmma_wait<0>();
            wgmma_keep(out);
            release_after_last_tile(value_piece(1));
        } else {
            look_ahead();
            wgmma_wait<0>();
            wgmma_keep(scores);
            hide_keys(unit, tile, warp, 0, lane, scores);
            softmax.first<T>(scores, args.scale_log2, probabilities);
            shared.wait_loaded(unit_number, value_piece(0));
            multiply_values<T, HeadDim>(shared.piece(unit_number, value_piece(0)), probabilities, out, false);
            wgmma_wait<0>();
            wgmma_keep(out);
#pragma unroll 1
            for (int piece = 0; piece < pieces_per_span; ++piece) release_after_last_tile(piece);
        }
        if (cursor.unit != unit_number) held = unit_number + 1;

        const bool ahead = cursor.on_tile();
        const TileRows rows = tile_rows(unit, tile, warp % 4);
        store_partials<T, HeadDim>(partial_target<HeadDim>(args.partials, unit, rows.own), rows, out, softmax.offset,
                                   softmax.sum, lane);
        if (ahead) {
            shared.release_until(held, cursor.unit);
        } else {
            seek();
            if (!cursor.stop) gather();
        }
    }
}

template <typename T, int HeadDim>
__global__ void __launch_bounds__(threads_per_block, 1)
    span_forward_kernel(const __grid_constant__ BlockForwardArgs args, const __grid_constant__ CUtensorMap k_map,
                        const __grid_constant__ CUtensorMap v_map) {
    using Shared = SpanShared<HeadDim>;
    extern __shared__ std::byte dynamic[];
    const std::uint32_t misaligned = shared_address(dynamic) % 1024;
    Shared& shared = *reinterpret_cast<Shared*>(dynamic + (1024 - misaligned) % 1024);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;

    if (threadIdx.x == 0) {
        for (std::uint64_t& barrier : shared.slots.announced) mbarrier_init(&barrier, 1);
        for (int s = 0; s < Shared::stages; ++s) {
            for (std::uint64_t& barrier : shared.loaded[s]) mbarrier_init(&barrier, 1);
            for (std::uint64_t& barrier : shared.released[s]) mbarrier_init(&barrier, 32 * consumer_warps);
        }
        mbarrier_init(&shared.tail_loaded, 1);
        fence_mbarrier_init();
        fence_async_proxy();
    }
    __syncthreads();
    wait_for_previous_kernel();
    let_next_kernel_launch();
    if (warp >= consumer_warps) {
        set_registers_down<producer_registers>();
        if (warp == consumer_warps) produce<HeadDim>(args, shared, k_map, v_map, lane);
    } else {
        set_registers_up<consumer_registers>();
        consume<T, HeadDim>(args, shared, warp, lane);
    }
}

template <typename T, int HeadDim>
Status launch(int multiprocessors, const BlockForwardArgs& args, const CUtensorMap& k_map, const CUtensorMap& v_map,
              cudaStream_t stream) {
    constexpr std::size_t bytes = sizeof(SpanShared<HeadDim>) + 1024;  // dynamic memory may begin anywhere
    static_assert(bytes <= 227 * 1024, "more than a thread block can have");
    static_assert(consumer_groups * consumer_registers + producer_registers <= (consumer_groups + 1) * entry_registers,
                  "more registers than the thread block begins with: setmaxnreg would wait for ever");
    return launch_persistent("block_forward (spans)", span_forward_kernel<T, HeadDim>, multiprocessors,
                             threads_per_block, bytes, stream, args, k_map, v_map);
}

}  // namespace

template <typename T>
Status launch_block_forward_spans(int width, int multiprocessors, const BlockForwardArgs& args,
                                  const CUtensorMap& k_map, const CUtensorMap& v_map, cudaStream_t stream) {
    return width == 64 ? launch<T, 64>(multiprocessors, args, k_map, v_map, stream)
                       : launch<T, 128>(multiprocessors, args, k_map, v_map, stream);
}

}  // namespace mobalab::kernels::cuda
