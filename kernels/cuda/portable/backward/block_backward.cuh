#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/forward/partial_store.cuh"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/path.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/portable/backward/block_backward.h"
#include "kernels/cuda/portable/backward/block_backward_shared.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/mma.cuh"
#include "kernels/cuda/tile/computed_here.cuh"

// block_backward by mma.sync and cp.async. A thread block has the keys and values of a run in shared memory, and two
// stages of tiles of queries, one of which is gathered while the other is in work. Its warps compute S^T = K Q^T and
// dP^T = V dO^T of 16 keys each, so that P^T and dS^T are, in registers, the left operands of dV += P^T dO and
// dK += dS^T Q. dS goes through shared memory once, to where the tile's rows were, for dQ = dS K.
//
// A tile has two barriers. Behind the first one its rows have come, and nobody uses the tile before: that one's stage
// is gathered into. Behind the second dS is there, and the tile after the next one is described. Where dS takes the
// place of the rows, there is one more before it is written: nobody reads them then.
namespace mobalab::kernels::cuda::portable {
namespace {

template <typename T, int P>
class BlockBackward {
    using S = Shape<P>;
    using Rows = cuda::Shape<P, S::keys, Mode::whole>;  // as eight warps have keys and columns there
    static constexpr int columns = S::columns, scores_of_step = S::step_rows / 2, fragments_of_step = S::step_rows / 16;

public:
    __device__ BlockBackward(const BlockBackwardArgs& args, Shared<P>& shared) : args_(args), shared_(shared) {}

    __device__ void run() {
        if (thread() == 0) shared_.units[0] = draw();
        for (int n = 0;; ++n) {
            __syncthreads();  // the unit is known, and nobody is at work on the one before
            const BackwardUnit& unit = shared_.units[n % 2];
            if (unit.item_count < 0) return;
            const bool has_keys = begin(unit);
            if (thread() == 0) shared_.units[(n + 1) % 2] = draw();
            if (!has_keys) continue;
            float dk[columns / 2], dv[columns / 2];
#pragma unroll
            for (int i = 0; i < columns / 2; ++i) dk[i] = dv[i] = 0.0f;
            add_tiles(dk, dv);
            store(unit, dk, dv);
        }
    }

private:
    __device__ BackwardUnit draw() const {
        const int index = atomicAdd(args_.units.counts + 1 + args_.run, 1);
        BackwardUnit none;
        none.item_count = -1;
        return index < args_.units.counts[0] ? args_.units.units[index] : none;
    }
    __device__ __forceinline__ KeyRun run_of(const BackwardUnit& unit) const {
        return key_run<S::keys>(args_, args_.lists.items[unit.first_item]);
    }
    /// Asks for keys and values, describes the first two tiles; false where the run has no key.
    __device__ __forceinline__ bool begin(const BackwardUnit& unit) {
        const KeyRun keys = run_of(unit);
        if (keys.keys <= 0) return false;
        load(shared_.k, args_.k, args_.head_dim, keys);
        load(shared_.v, args_.v, args_.value_dim, keys);
        if (thread() != 0) return true;
        shared_.run_keys = keys.keys;
        shared_.walk.begin(unit);
        shared_.tiles[0] = shared_.walk.next(args_);
        shared_.tiles[1] = shared_.walk.next(args_);
        return true;
    }
    __device__ __forceinline__ void load(std::byte* to, const RowTensor& from, int head_dim, const KeyRun& keys) const {
        load_rows<P, S::keys>(to, from.row(keys.key_head, keys.key), from.stride.token, keys.keys, head_dim / 8,
                              computed_here(thread()), threads_per_block);
    }

    /// All tiles of a unit.
    __device__ __forceinline__ void add_tiles(float (&dk)[columns / 2], float (&dv)[columns / 2]) {
        __syncthreads();  // two tiles are described
        const int thread_now = computed_here(thread());
        gather<P>(args_, shared_.tiles[0], gather_entries<P>(shared_.tiles[0], thread_now), stage(0), thread_now);
        ptx::cp_async_commit();
        GatherEntries entries = gather_entries<P>(shared_.tiles[1], thread_now);
        for (int t = 0;; ++t) {
            ptx::cp_async_wait<0>();
            __syncthreads();
            const QueryTile& tile = shared_.tiles[t % tile_slots];
            if (tile.rows == 0) return;
            const QueryTile& next = shared_.tiles[(t + 1) % tile_slots];
            if (next.rows > 0) gather<P>(args_, next, entries, stage(t + 1), computed_here(thread()));
            ptx::cp_async_commit();
            if (thread() == 0 && next.rows > 0) shared_.tiles[(t + 2) % tile_slots] = shared_.walk.next(args_);
#pragma unroll 1
            for (int step = 0; step < S::steps; ++step) {
                std::uint32_t d_scores[fragments_of_step][4];
                add_step(tile, stage(t), step, computed_here(thread()), dk, dv, d_scores);
                if constexpr (!S::d_scores_apart) __syncthreads();
                store_d_scores(shared_.d_scores(t % stages), step, d_scores, computed_here(thread()));
            }
            __syncthreads();
            if (next.rows > 0)
                entries = gather_entries<P>(shared_.tiles[(t + 2) % tile_slots], computed_here(thread()));
            add_dq(tile, shared_.d_scores(t % stages), computed_here(thread()));
        }
    }

    /// The products of step_rows queries up to dK.
    __device__ __forceinline__ void add_step(const QueryTile& tile, const Stage<P>& stage, int step, int thread,
                                             float (&dk)[columns / 2], float (&dv)[columns / 2],
                                             std::uint32_t (&d_scores)[fragments_of_step][4]) {
        const int lane = thread % 32, first_row = step * S::step_rows;
        const int first_key = thread / 32 % S::key_groups * 16, first_piece = thread / 32 / S::key_groups * columns / 8;
        float p[scores_of_step], dp[scores_of_step];
        multiply(p, shared_.k, first_key, stage.q, first_row, lane);
        multiply(dp, shared_.v, first_key, stage.d_out, first_row, lane);
        const std::uint32_t seen = visible(tile, stage, first_key + lane / 4, first_row + 2 * (lane % 4));
#pragma unroll
        for (int i = 0; i < scores_of_step; i += 4) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const float2 row = stage.lse_dot[first_row + 2 * i + 2 * (lane % 4) + e];
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    const int at = i + 2 * h + e;
                    const bool sees = (seen >> at & 1u) != 0;
                    p[at] = sees ? ptx::exp2_approx(fmaf(p[at], args_.scale_log2, -row.x)) : 0.0f;
                    dp[at] = sees ? p[at] * (dp[at] - row.y) : 0.0f;
                }
            }
        }
        std::uint32_t probabilities[fragments_of_step][4];
        pack_fragments(p, probabilities);
        pack_fragments(dp, d_scores);
        add_gradient(dv, probabilities, stage.d_out, first_row, first_piece, lane);
        add_gradient(dk, d_scores, stage.q, first_row, first_piece, lane);
    }

    /// 16 keys x step_rows queries: element 4 j + 2 h + e is key lane / 4 + 8 h, query 8 j + 2 (lane % 4) + e.
    static __device__ __forceinline__ void multiply(float (&product)[scores_of_step], const std::byte* key_rows,
                                                    int first_key, const std::byte* query_rows, int first_row,
                                                    int lane) {
#pragma unroll
        for (float& x : product) x = 0.0f;
#pragma unroll 2
        for (int step = 0; step < P / 16; ++step) {
            std::uint32_t a[4];
            load_a<P>(a, key_rows, first_key, step, lane);
#pragma unroll
            for (int j = 0; j < S::step_rows / 8; j += 2) {
                std::uint32_t b[4];
                load_b<P>(b, query_rows, first_row + 8 * j, step, lane);
                ptx::mma<T>(product + 4 * j, a, b[0], b[1]);
                ptx::mma<T>(product + 4 * j + 4, a, b[2], b[3]);
            }
        }
    }
    /// 16 keys x columns, over step_rows queries.
    static __device__ __forceinline__ void add_gradient(float (&sum)[columns / 2],
                                                        const std::uint32_t (&weights)[fragments_of_step][4],
                                                        const std::byte* query_rows, int first_row, int first_piece,
                                                        int lane) {
#pragma unroll
        for (int s = 0; s < fragments_of_step; ++s) {
#pragma unroll
            for (int j = 0; j < columns / 8; j += 2) {
                std::uint32_t b[4];
                load_b_transposed<P>(b, query_rows, first_row + 16 * s, first_piece + j, lane);
                ptx::mma<T>(sum + 4 * j, weights[s], b[0], b[1]);
                ptx::mma<T>(sum + 4 * j + 4, weights[s], b[2], b[3]);
            }
        }
    }
    static __device__ __forceinline__ void pack_fragments(const float (&values)[scores_of_step],
                                                          std::uint32_t (&packed)[fragments_of_step][4]) {
#pragma unroll
        for (int s = 0; s < fragments_of_step; ++s) {
#pragma unroll
            for (int r = 0; r < 4; ++r) {
                packed[s][r] = pack<T>(values[8 * s + 2 * r], values[8 * s + 2 * r + 1]);
            }
        }
    }

    /// Bit 4 j + 2 h + e: query row + 8 j + e of the tile sees key `key` + 8 h of the run.
    __device__ __forceinline__ std::uint32_t visible(const QueryTile& tile, const Stage<P>& stage, int key,
                                                     int row) const {
        const bool parts = args_.block_size < args_.keys_per_list;
        std::uint32_t seen = 0;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int key_of_list = args_.run * S::keys + key + 8 * h;
            // A mask ends before bit 31: keys behind the list lie in no block of it.
            const int block = parts ? min(args_.block.divide(key_of_list), 31) : 0;
            // Of the run: where the block ends.
            const int end = parts ? (block + 1) * args_.block_size - args_.run * S::keys : INT_MAX;
#pragma unroll
            for (int i = 0; i < scores_of_step / 2; ++i) {
                const int of_row = row + i / 2 * 8 + i % 2, own_key = tile.last_key + of_row;
                bool sees = key + 8 * h < shared_.run_keys;
                if (tile.own) {
                    sees = sees && own_key >= key + 8 * h && own_key < end;
                } else if (parts) {
                    sees = sees && (stage.blocks[of_row] >> block & 1u) != 0;
                }
                if (sees) seen |= 1u << (i / 2 * 4 + 2 * h + i % 2);
            }
        }
        return seen;
    }

    static __device__ __forceinline__ void store_d_scores(std::byte* to, int step,
                                                          const std::uint32_t (&d_scores)[fragments_of_step][4],
                                                          int thread) {
        const int lane = thread % 32, warp = thread / 32;
        if (warp >= S::key_groups) return;  // the others have the same
#pragma unroll
        for (int s = 0; s < fragments_of_step; ++s) {
#pragma unroll
            for (int r = 0; r < 4; ++r) {
                const int key = warp * 16 + lane / 4 + r % 2 * 8, piece = step * (S::step_rows / 8) + 2 * s + r / 2;
                std::byte* const place = to + SwizzledRows<S::tile_rows>::offset(key, piece) + lane % 4 * 4;
                *reinterpret_cast<std::uint32_t*>(place) = d_scores[s][r];
            }
        }
    }

    /// 16 queries x 32 columns of partial dQ, over the keys of the run.
    __device__ __forceinline__ void add_dq(const QueryTile& tile, const std::byte* d_scores, int thread) {
        const int lane = thread % 32, warp = thread / 32;
        const int group = warp % S::query_groups, column = warp / S::query_groups * S::dq_columns;
        if (column >= args_.columns) return;
        float dq[S::dq_columns / 2] = {};
#pragma unroll 2
        for (int s = 0; s < S::keys / 16; ++s) {
            std::uint32_t a[4];
            load_a_transposed<S::tile_rows>(a, d_scores, 16 * s, 2 * group, lane);
#pragma unroll
            for (int j = 0; j < S::dq_columns / 8; j += 2) {
                std::uint32_t b[4];
                load_b_transposed<P>(b, shared_.k, 16 * s, column / 8 + j, lane);
                ptx::mma<T>(dq + 4 * j, a, b[0], b[1]);
                ptx::mma<T>(dq + 4 * j + 4, a, b[2], b[3]);
            }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int row = group * 16 + lane / 4 + 8 * h;
            if (row < tile.rows) store_dq(dq, h, tile.dq + row * tile.pitch + column * 2 + lane % 4 * 16);
        }
    }
    /// Half h of a fragment to its piece of 16 bytes of a partial; runs after the first one add to it.
    __device__ __forceinline__ void store_dq(const float (&dq)[S::dq_columns / 2], int h, char* piece) const {
        std::uint32_t word[4] = {};
        if (args_.run > 0) {
            const uint4 before = *reinterpret_cast<const uint4*>(piece);
            word[0] = before.x;
            word[1] = before.y;
            word[2] = before.z;
            word[3] = before.w;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float2 before = unpack<T>(word[i]);
            word[i] = pack<T>(fmaf(dq[4 * i + 2 * h], args_.scale, before.x),
                              fmaf(dq[4 * i + 2 * h + 1], args_.scale, before.y));
        }
        store_streaming(piece, make_uint4(word[0], word[1], word[2], word[3]));
    }

    /// Reads the unit again rather than keep it in registers.
    __device__ __forceinline__ void store(const BackwardUnit& unit, const float (&dk)[columns / 2],
                                          const float (&dv)[columns / 2]) {
        const KeyRun keys = run_of(unit);
        if (unit.slot < 0) {
            store_rows<T, Rows>(args_.dk, keys, args_.head_dim, args_.scale, dk, computed_here(thread()));
            store_rows<T, Rows>(args_.dv, keys, args_.value_dim, 1.0f, dv, computed_here(thread()));
            return;
        }
        store_slot<Rows>(slot_of<Rows>(args_, unit.slot, 0, thread()), dk);
        store_slot<Rows>(slot_of<Rows>(args_, unit.slot, 1, thread()), dv);
        SplitRun& split = args_.units.splits[unit.split];
        if (fills_last_slot(split)) sum_slots(split, keys);
    }
    /// Whether this thread block is the last one to fill a slot of the run; then all of them are visible to it.
    __device__ __forceinline__ bool fills_last_slot(SplitRun& split) {
        __threadfence();
        __syncthreads();
        if (thread() == 0) shared_.fills_last_slot = atomicAdd(&split.filled, 1) == split.slots - 1;
        __syncthreads();
        __threadfence();
        return shared_.fills_last_slot;
    }
    /// In the order of the slots, whichever came last.
    __device__ __forceinline__ void sum_slots(SplitRun& split, const KeyRun& keys) {
#pragma unroll 1
        for (int matrix = 0; matrix < 2; ++matrix) {
            float sum[columns / 2] = {};
            for (int i = 0; i < split.slots; ++i) {
                const float4* const slot = slot_of<Rows>(args_, split.first_slot + i, matrix, thread());
#pragma unroll
                for (int j = 0; j < columns / 8; ++j) {
                    const float4 part = __ldcg(slot + j * threads_per_block);
                    sum[4 * j] += part.x;
                    sum[4 * j + 1] += part.y;
                    sum[4 * j + 2] += part.z;
                    sum[4 * j + 3] += part.w;
                }
            }
            const RowTensor& tensor = matrix == 0 ? args_.dk : args_.dv;
            const float scale = matrix == 0 ? args_.scale : 1.0f;
            const int head_dim = matrix == 0 ? args_.head_dim : args_.value_dim;
            if (args_.adds_to_keys) {
                add_rows<Rows>(tensor, keys, head_dim, scale, sum, thread());
            } else {
                store_rows<T, Rows>(tensor, keys, head_dim, scale, sum, thread());
            }
        }
        if (thread() == 0) split.filled = 0;  // for the next run of the list
    }

    static __device__ __forceinline__ int thread() {
        return static_cast<int>(threadIdx.x);
    }
    __device__ __forceinline__ Stage<P>& stage(int tile) {
        return shared_.stages_of_tiles[tile % stages];
    }

    const BlockBackwardArgs& args_;
    Shared<P>& shared_;
};

template <typename T, int P>
__global__ void __launch_bounds__(threads_per_block, Shape<P>::blocks_a_multiprocessor)
    block_backward_kernel(const __grid_constant__ BlockBackwardArgs args) {
    extern __shared__ std::byte dynamic[];
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    BlockBackward<T, P>(args, *reinterpret_cast<Shared<P>*>(dynamic)).run();
}

template <typename T, int P>
Status launch(int multiprocessors, const BlockBackwardArgs& args, cudaStream_t stream) {
    constexpr std::size_t bytes = sizeof(Shared<P>);
    static_assert(bytes <= portable_shared_memory, "more than a thread block has on small devices");
    return launch_persistent("block_backward (portable)", block_backward_kernel<T, P>,
                             multiprocessors * Shape<P>::blocks_a_multiprocessor, threads_per_block, bytes, stream,
                             args);
}

template <typename T>
Status launch_width(int multiprocessors, const BlockBackwardArgs& args, cudaStream_t stream) {
    switch (padded_head_dim(std::max(args.head_dim, args.value_dim))) {
        case 64:
            return launch<T, 64>(multiprocessors, args, stream);
        case 128:
            return launch<T, 128>(multiprocessors, args, stream);
        default:
            return launch<T, 256>(multiprocessors, args, stream);
    }
}

}  // namespace
}  // namespace mobalab::kernels::cuda::portable
