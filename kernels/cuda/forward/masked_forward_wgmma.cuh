#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/forward/block_mask.cuh"
#include "kernels/cuda/forward/masked_forward.h"
#include "kernels/cuda/forward/masked_softmax.cuh"
#include "kernels/cuda/forward/run_softmax.cuh"
#include "kernels/cuda/forward/run_tile.cuh"
#include "kernels/cuda/forward/work_unit.cuh"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/path.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/tile/quad_transpose.cuh"

// Query-major attention for Hopper (masked_forward.h), in the shape of FlashAttention-3 (Shah et al., 2024,
// sections 3.1 and 3.2): two consumer warpgroups have 64 of the rows each, a producer warp copies keys and values. A
// warpgroup's scores of the next run are computed together with its product of this run's values, and the softmax of
// one warpgroup runs under the products of the other, as they take turns to issue them.
//
// Synchronisation, run i of the list, stage s = i % stages
//   q_loaded                     the rows' queries                     copy engine -> consumers
//   k_loaded[s], v_loaded[s]     keys, values of run i                 copy engine (or producer) -> consumers
//   k_released[s], v_released[s] every consumer warp is done with them consumers -> producer
//   named barrier 1 + g          warpgroup g's turn                    the other warpgroup -> warpgroup g
//   named barrier 3              the first pass is over                consumers and producer
// Both warpgroups go through the whole list, turns included; one that does not need a run releases it at once. It holds
// no values meanwhile: the other one may need their stage.
//
// A row that did not select a run weighs its values with 0, and 0 times NaN is NaN. Whether there was such a value
// shows in the end; the thread block then goes through its list once more, with care.
namespace mobalab::kernels::cuda {
namespace {

using namespace ptx;

constexpr int consumer_groups = 2;
constexpr int consumer_warps = 4 * consumer_groups;
constexpr int threads_per_block = 128 * (consumer_groups + 1);
constexpr int producer_registers = 24, consumer_registers = 240;
constexpr int entry_registers = 168;  // of each thread, the most of 65536 for so many, before they divide them anew
constexpr int group_rows = masked_rows / consumer_groups;
constexpr int end_of_pass = 1 + consumer_groups;  // a named barrier
constexpr int threads_of_pass = 32 * (consumer_warps + 1);
static_assert(masked_rows == keys_per_run, "queries lie in a tile like that of a run");

template <int HeadDim>
struct MaskedShared {
    static constexpr int stages = masked_stages(HeadDim);

    alignas(1024) std::byte q[RunTile<HeadDim>::bytes];
    alignas(1024) std::byte k[stages][RunTile<HeadDim>::bytes];
    alignas(1024) std::byte v[stages][RunTile<HeadDim>::bytes];
    std::uint64_t q_loaded, tail_loaded;
    std::uint64_t k_loaded[stages], k_released[stages];
    std::uint64_t v_loaded[stages], v_released[stages];
    int runs;     ///< in the list
    int strange;  ///< not 0: values that are NaN or infinite ask for a second pass

    __device__ __forceinline__ void wait_keys(int i) { mbarrier_wait(&k_loaded[i % stages], i / stages & 1); }
    __device__ __forceinline__ void wait_values(int i) { mbarrier_wait(&v_loaded[i % stages], i / stages & 1); }
    __device__ __forceinline__ void release_keys(int i, int lane) {
        if (lane == 0) mbarrier_arrive(&k_released[i % stages]);
    }
    __device__ __forceinline__ void release_values(int i, int lane) {
        if (lane == 0) mbarrier_arrive(&v_released[i % stages]);
    }
};

/// The producer warp. A pass goes through the list once; runs are numbered on from one pass to the next.
template <int HeadDim>
struct RunProducer {
    using Shared = MaskedShared<HeadDim>;
    static constexpr int stages = Shared::stages;

    Shared& shared;
    const BlockMask& mask;
    const RowTile& tile;
    int key_head, lane;

    __device__ __forceinline__ Place place(int run) const { return tile.sequence.k.from(run * keys_per_run); }

    __device__ __forceinline__ void load_keys(const CUtensorMap& map, int pass, int i) const {
        const int number = pass * shared.runs + i, stage = number % stages;
        if (number >= stages) mbarrier_wait(&shared.k_released[stage], (number / stages - 1) & 1);
        if (lane != 0) return;
        mbarrier_arrive_expect(&shared.k_loaded[stage], RunTile<HeadDim>::bytes);
        copy_run<RunTile<HeadDim>>(shared.k[stage], map, key_head, place(mask.listed(i).run()),
                                   &shared.k_loaded[stage]);
    }
    __device__ __forceinline__ void load_values(const CUtensorMap& map, int pass, int i) const {
        const int number = pass * shared.runs + i, stage = number % stages;
        if (number >= stages) mbarrier_wait(&shared.v_released[stage], (number / stages - 1) & 1);
        const int run = mask.listed(i).run(), keys = tile.sequence.sk - run * keys_per_run;
        std::uint64_t* const loaded = &shared.v_loaded[stage];
        if (lane == 0) {
            std::uint64_t* const barrier = keys < keys_per_run ? &shared.tail_loaded : loaded;
            mbarrier_arrive_expect(barrier, RunTile<HeadDim>::bytes);
            copy_run<RunTile<HeadDim>>(shared.v[stage], map, key_head, place(run), barrier);
        }
        if (keys >= keys_per_run) return;
        mbarrier_wait(&shared.tail_loaded, pass & 1);  // one run of a pass ends the sequence
        clear_rows_from<RunTile<HeadDim>>(shared.v[stage], keys, lane);
        fence_async_proxy();
        __syncwarp();
        if (lane == 0) mbarrier_arrive(loaded);
    }
};

/// Keys of the next run before values of this one: scores are computed ahead.
template <int HeadDim>
__device__ __forceinline__ void produce(const RunProducer<HeadDim>& producer, const CUtensorMap& k_map,
                                        const CUtensorMap& v_map, int pass) {
    const int runs = producer.shared.runs;
    if (runs == 0) return;
    producer.load_keys(k_map, pass, 0);
#pragma unroll 1
    for (int i = 0; i < runs; ++i) {
        if (i + 1 < runs) producer.load_keys(k_map, pass, i + 1);
        producer.load_values(v_map, pass, i);
    }
}

/// The turns of the two warpgroups: one for every run of the list.
struct Turns {
    int group, runs;

    __device__ __forceinline__ void begin() const {
        if (group == 1 && runs > 0) named_barrier_arrive(1, 128 * consumer_groups);
    }
    __device__ __forceinline__ void wait() const { named_barrier(1 + group, 128 * consumer_groups); }
    __device__ __forceinline__ void pass(int i) const {
        if (group == 0 || i + 1 < runs) named_barrier_arrive(2 - group, 128 * consumer_groups);
    }
};

/// One warpgroup's rows.
template <typename T, int HeadDim, bool Whole>
struct RowConsumer {
    using Shared = MaskedShared<HeadDim>;

    const MaskedForwardArgs& args;
    Shared& shared;
    const BlockMask& mask;
    const RowTile& tile;
    int group, warp, lane;  // warp: of the warpgroup
    Turns turns;

    MaskedSoftmax<Whole> softmax = {};
    float out[HeadDim / 2] = {};

    __device__ __forceinline__ int row(int h) const { return group * group_rows + warp * 16 + lane / 4 + 8 * h; }

    __device__ __forceinline__ bool needs(int i) const { return mask.listed(i).needed_by(group); }

    /// Of the list's run i in the second pass.
    __device__ __forceinline__ int again(int i) const { return turns.runs + i; }

    __device__ __forceinline__ void multiply_keys(int number, float (&scores)[keys_per_run / 2]) {
        const UniformDescriptor q(descriptor_k_major(shared.q + group * group_rows * panel_row_bytes));
        const UniformDescriptor k(descriptor_k_major(shared.k[number % Shared::stages]));
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < HeadDim / 16; ++s) {
            const std::uint32_t at = s / 4 * RunTile<HeadDim>::panel_bytes + s % 4 * 32;
            Wgmma<T, keys_per_run, false>::shared(scores, q.at(at), k.at(at), s > 0);
        }
        wgmma_commit();
    }
    /// out += probabilities * values.
    __device__ __forceinline__ void multiply_values(int number,
                                                    const std::uint32_t (&probabilities)[keys_per_run / 16][4]) {
        const UniformDescriptor v(
            descriptor_mn_major(shared.v[number % Shared::stages], RunTile<HeadDim>::panel_bytes));
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < keys_per_run / 16; ++s) {
            Wgmma<T, HeadDim, true>::registers_a(out, probabilities[s], v.at(s * 2048), 1);
        }
        wgmma_commit();
    }

    /// Scores of the list's run i become probabilities, and what came before is weighed anew.
    __device__ __forceinline__ void weigh(int i, float (&scores)[keys_per_run / 2], float (&rescale)[2]) {
        const int run = mask.listed(i).run(), first_key = run * keys_per_run;
        const std::uint32_t seen[2] = {mask.of(run, row(0)), mask.of(run, row(1))};
        if (first_key + keys_per_run > tile.keys_end(group * group_rows + warp * 16, args.causal)) {
            VisibleKeys visible;
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const int keys = tile.keys_end(row(h), args.causal) - first_key;
                visible.row[h] = keys_before(min(max(keys, 0), keys_per_run), lane);
            }
            visible.apply<keys_per_run / 8>(scores, 0);
        }
        softmax.step(scores, seen, args.scale_log2, rescale);
    }
    __device__ __forceinline__ void rescale_out(const float (&rescale)[2]) {
#pragma unroll
        for (int i = 0; i < HeadDim / 2; ++i) out[i] *= rescale[i / 2 % 2];
    }

    /// A release before the stage was loaded would count for its run before this one.
    __device__ __forceinline__ void skip(int number) {
        shared.wait_keys(number);
        shared.release_keys(number, lane);
        shared.wait_values(number);
        shared.release_values(number, lane);
    }
    __device__ __forceinline__ void begin() {
        softmax = {};
#pragma unroll
        for (float& x : out) x = 0.0f;
    }

    __device__ __forceinline__ void attend() {
        float scores[keys_per_run / 2], rescale[2];
        std::uint32_t probabilities[keys_per_run / 16][4];
        begin();
        turns.begin();
        mbarrier_wait(&shared.q_loaded, 0);
        for (int i = 0;; ++i) {
            for (; i < turns.runs && !needs(i); ++i) {
                turns.wait();
                turns.pass(i);
                skip(i);
            }
            if (i == turns.runs) return;
            turns.wait();
            shared.wait_keys(i);
            multiply_keys(i, scores);
            turns.pass(i);
            wgmma_wait<0>();
            wgmma_keep(scores);
            shared.release_keys(i, lane);
            weigh(i, scores, rescale);
            rescale_out(rescale);
            pack_probabilities<T>(scores, probabilities);
#pragma unroll 1
            for (; i + 1 < turns.runs && needs(i + 1); ++i) {
                turns.wait();
                shared.wait_keys(i + 1);
                multiply_keys(i + 1, scores);
                shared.wait_values(i);
                multiply_values(i, probabilities);
                turns.pass(i + 1);
                wgmma_wait<1>();
                wgmma_keep(scores);
                shared.release_keys(i + 1, lane);
                weigh(i + 1, scores, rescale);
                wgmma_wait<0>();
                wgmma_keep(out);
                shared.release_values(i, lane);
                rescale_out(rescale);
                pack_probabilities<T>(scores, probabilities);
            }
            shared.wait_values(i);
            multiply_values(i, probabilities);
            wgmma_wait<0>();
            wgmma_keep(out);
            shared.release_values(i, lane);
        }
    }

    /// Whether a value that is NaN or infinite has met the rows of this thread, or a key that gives them such scores.
    __device__ __forceinline__ bool is_strange() const {
        float zero = 0.0f;
#pragma unroll
        for (int i = 0; i < HeadDim / 2; ++i) zero = fmaf(out[i], 0.0f, zero);
        return zero != zero;
    }

    /// The same once more, where such values must not reach rows that weigh them with 0 because they did not select
    /// them: these keep what they have. All others repeat their bits.
    __device__ __forceinline__ void attend_carefully() {
        begin();
#pragma unroll 1
        for (int i = 0; i < turns.runs; ++i) {
            if (!needs(i)) {
                skip(again(i));
                continue;
            }
            float scores[keys_per_run / 2], kept[HeadDim / 2], rescale[2];
            std::uint32_t probabilities[keys_per_run / 16][4];
            shared.wait_keys(again(i));
            multiply_keys(again(i), scores);
            wgmma_wait<0>();
            wgmma_keep(scores);
            shared.release_keys(again(i), lane);
            weigh(i, scores, rescale);
            rescale_out(rescale);
            pack_probabilities<T>(scores, probabilities);
#pragma unroll
            for (int j = 0; j < HeadDim / 2; ++j) kept[j] = out[j];
            shared.wait_values(again(i));
            multiply_values(again(i), probabilities);
            wgmma_wait<0>();
            wgmma_keep(out);
            shared.release_values(again(i), lane);
            const int run = mask.listed(i).run();
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                if (mask.of(run, row(h)) != 0) continue;
#pragma unroll
                for (int j = 0; j < HeadDim / 4; ++j) {
                    const int at = 4 * (j / 2) + 2 * h + j % 2;
                    out[at] = kept[at];
                }
            }
        }
    }

    __device__ __forceinline__ void store() const {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const float sum = softmax.total(h);
            const float inverse = sum != 0.0f ? 1.0f / sum : 0.0f;  // NaN stays NaN
            const bool exists = row(h) < tile.count;
            const int token = tile.first + row(h);
            char* const out_row = args.output.out.row(tile.head, tile.sequence.q.from(exists ? token : 0));
#pragma unroll
            for (int m = 0; m < HeadDim / 32; ++m) {
                uint4 piece;
                std::uint32_t* const words = &piece.x;
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int at = 4 * (4 * m + i) + 2 * h;
                    words[i] = pack<T>(out[at] * inverse, out[at + 1] * inverse);
                }
                piece = quad_transpose(piece, lane);
                const int number = 4 * m + lane % 4;
                if (exists && number < args.value_pieces) {
                    *reinterpret_cast<uint4*>(out_row + number * 16) = piece;
                }
            }
            if (exists && lane % 4 == 0) {
                *args.output.lse_of(tile.head, tile.sequence.q_begin + token) = log_of_sum(softmax.offset[h], sum);
            }
        }
    }
};

template <typename T, int HeadDim, bool Whole>
__global__ void __launch_bounds__(threads_per_block, 1)
    masked_forward_kernel(const __grid_constant__ MaskedForwardArgs args, const __grid_constant__ CUtensorMap q_map,
                          const __grid_constant__ CUtensorMap k_map, const __grid_constant__ CUtensorMap v_map) {
    using Shared = MaskedShared<HeadDim>;
    extern __shared__ std::byte dynamic[];
    const std::uint32_t misaligned = shared_address(dynamic) % 1024;
    Shared& shared = *reinterpret_cast<Shared*>(dynamic + (1024 - misaligned) % 1024);
    const BlockMask mask(args.mask, reinterpret_cast<std::uint32_t*>(&shared + 1));
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;

    if (threadIdx.x == 0) {
        shared.strange = 0;
        mbarrier_init(&shared.q_loaded, 1);
        mbarrier_init(&shared.tail_loaded, 1);
        for (int s = 0; s < Shared::stages; ++s) {
            mbarrier_init(&shared.k_loaded[s], 1);
            mbarrier_init(&shared.v_loaded[s], 1);
            mbarrier_init(&shared.k_released[s], consumer_warps);
            mbarrier_init(&shared.v_released[s], consumer_warps);
        }
        fence_mbarrier_init();
        fence_async_proxy();
    }
    mask.clear<threads_per_block>();
    __syncthreads();
    wait_for_previous_kernel();
    let_next_kernel_launch();
    const RowTile tile = row_tile(args);
    if (tile.count == 0) return;
    if (warp == consumer_warps && lane == 0) {
        mbarrier_arrive_expect(&shared.q_loaded, RunTile<HeadDim>::bytes);
        copy_run<RunTile<HeadDim>>(shared.q, q_map, tile.head, tile.sequence.q.from(tile.first), &shared.q_loaded);
    }
    mask.mark<threads_per_block>(args, tile);
    __syncthreads();
    if (warp == 0) {
        const int runs = mask.list_runs(tile, args.causal);
        if (lane == 0) shared.runs = runs;
    }
    __syncthreads();

    if (warp >= consumer_warps) {
        set_registers_down<producer_registers>();
        if (warp == consumer_warps) {
            const RunProducer<HeadDim> producer{shared, mask, tile, tile.head / args.query_heads_per_key_head, lane};
            produce(producer, k_map, v_map, 0);
            named_barrier(end_of_pass, threads_of_pass);
            if (shared.strange != 0) produce(producer, k_map, v_map, 1);
        }
    } else {
        set_registers_up<consumer_registers>();
        const int group = warp / 4;
        RowConsumer<T, HeadDim, Whole> consumer{args, shared, mask, tile, group, warp % 4, lane, {group, shared.runs}};
        consumer.attend();
        if (consumer.is_strange()) shared.strange = 1;
        named_barrier(end_of_pass, threads_of_pass);
        if (shared.strange != 0) consumer.attend_carefully();
        consumer.store();
    }
}

template <typename T, int HeadDim, bool Whole>
Status launch(const MaskedForwardArgs& args, const CUtensorMap& q_map, const CUtensorMap& k_map,
              const CUtensorMap& v_map, cudaStream_t stream) {
    static_assert(consumer_groups * consumer_registers + producer_registers <= (consumer_groups + 1) * entry_registers,
                  "more registers than the thread block begins with: setmaxnreg would wait for ever");
    const auto kernel = masked_forward_kernel<T, HeadDim, Whole>;
    const auto bytes = static_cast<std::size_t>(masked_forward_bytes(args.mask, HeadDim));
    static_assert(sizeof(MaskedShared<HeadDim>) <= masked_tile_bytes(HeadDim) + masked_barrier_bytes);
    constexpr const char* name = "masked_forward (wgmma)";
    // As much as it may ever need: launches of other threads may come between this and the next line.
    constexpr std::size_t most = hopper_shared_memory;
    if (Status s = allow_shared_memory(name, reinterpret_cast<const void*>(kernel), most); !s.ok()) return s;
    const auto blocks =
        static_cast<unsigned>(args.row_tiles) * static_cast<unsigned>(args.heads_q * args.sequences.batch);
    return launch_early(name, kernel, dim3(blocks), threads_per_block, bytes, stream, args, q_map, k_map, v_map);
}

}  // namespace

template <typename T>
Status launch_masked_forward(int width, const MaskedForwardArgs& args, const CUtensorMap& q_map,
                             const CUtensorMap& k_map, const CUtensorMap& v_map, cudaStream_t stream) {
    const bool whole = args.mask.block_size >= keys_per_run;
    if (width == 64) {
        return whole ? launch<T, 64, true>(args, q_map, k_map, v_map, stream)
                     : launch<T, 64, false>(args, q_map, k_map, v_map, stream);
    }
    return whole ? launch<T, 128, true>(args, q_map, k_map, v_map, stream)
                 : launch<T, 128, false>(args, q_map, k_map, v_map, stream);
}

}  // namespace mobalab::kernels::cuda
