#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/backward/block_backward_shared.cuh"
#include "kernels/cuda/backward/key_gradient.cuh"
#include "kernels/cuda/forward/partial_store.cuh"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/tile/computed_here.cuh"

// Tiles into gradients: the five products.
namespace mobalab::kernels::cuda {
namespace {

using namespace ptx;

template <typename T, int P, int K, Mode M>
class Consumer {
    using S = Shape<P, K, M>;
    static constexpr int columns = S::key_gradient_columns;
    static constexpr int early = S::split_keys || M == Mode::any ? 0 : 4;  // pairs of offsets

public:
    __device__ Consumer(const BlockBackwardArgs& args, Shared<P, K, M>& shared) : args_(args), shared_(shared) {}

    __device__ void run(const CUtensorMap& k_map, const CUtensorMap& v_map) {
        if (thread() == 0) load(0, k_map, v_map);
        // The number of the unit: in shared memory, as the tiles leave no register.
        volatile std::uint32_t& number = shared_.unit_numbers[thread()];
        for (number = 0;; number = number + 1) {
            const BackwardUnit unit = wait_for_unit(number);
            if (unit.item_count < 0) return;
            const KeyRun keys = key_run<K>(args_, args_.lists.items[unit.first_item]);
            mbarrier_wait(&shared_.kv_loaded, number & 1);
            if (keys.keys < S::keys) {
                clear_keys_from(shared_, max(keys.keys, 0), thread());
                fence_async_proxy();
                wait_for_team();
            }
            float dk[columns / 2], dv[columns / 2];
#pragma unroll
            for (int i = 0; i < columns / 2; ++i) dk[i] = dv[i] = 0.0f;
            if (wait_for_tile().rows == 0) {
                skip_tile();
            } else if constexpr (S::split_columns) {
                add_tiles_in_step(dk, dv);
            } else {
                add_tiles(dk, dv);
            }
            wait_for_team();  // nobody reads keys and values any more
            if (thread() == 0) load(number + 1, k_map, v_map);
            __syncwarp();
            store(number, dk, dv);
        }
    }

private:
    /// Reads the unit again rather than keep it in registers.
    __device__ __forceinline__ void store(std::uint32_t n, const float (&dk)[columns / 2],
                                          const float (&dv)[columns / 2]) {
        const BackwardUnit unit = shared_.units[n % unit_slots];
        const KeyRun keys = key_run<K>(args_, args_.lists.items[unit.first_item]);
        if (unit.slot < 0) {
            store_rows<T, S>(args_.dk, keys, args_.head_dim, args_.scale, dk, thread());
            store_rows<T, S>(args_.dv, keys, args_.value_dim, 1.0f, dv, thread());
        } else {
            store_slot<S>(slot_of<S>(args_, unit.slot, 0, thread()), dk);
            store_slot<S>(slot_of<S>(args_, unit.slot, 1, thread()), dv);
            SplitRun& split = args_.units.splits[unit.split];
            if (fills_last_slot(split)) sum_slots(split, keys);
        }
    }
    /// Whether this thread block is the last one to fill a slot of the run; then all of them are visible to it.
    __device__ __forceinline__ bool fills_last_slot(SplitRun& split) {
        __threadfence();
        wait_for_team();
        if (thread() == 0) shared_.fills_last_slot = atomicAdd(&split.filled, 1) == split.slots - 1;
        wait_for_team();
        __threadfence();
        return shared_.fills_last_slot;
    }
    /// In the order of the slots, whichever came last.
    __device__ __forceinline__ void sum_slots(SplitRun& split, const KeyRun& keys) {
        constexpr int vectors = columns / 8;
#pragma unroll 1
        for (int matrix = 0; matrix < 2; ++matrix) {
            float sum[columns / 2] = {};
            for (int i = 0; i < split.slots; ++i) {
                const float4* const slot = slot_of<S>(args_, split.first_slot + i, matrix, thread());
#pragma unroll
                for (int j = 0; j < vectors; ++j) {
                    const float4 part = __ldcg(slot + j * S::consumer_threads);
                    sum[4 * j] += part.x;
                    sum[4 * j + 1] += part.y;
                    sum[4 * j + 2] += part.z;
                    sum[4 * j + 3] += part.w;
                }
            }
            if (keys.keys <= 0) continue;
            const RowTensor& tensor = matrix == 0 ? args_.dk : args_.dv;
            const int head_dim = matrix == 0 ? args_.head_dim : args_.value_dim;
            const float scale = matrix == 0 ? args_.scale : 1.0f;
            if (args_.adds_to_keys) {
                add_rows<S>(tensor, keys, head_dim, scale, sum, thread());
            } else {
                store_rows<T, S>(tensor, keys, head_dim, scale, sum, thread());
            }
        }
        if (thread() == 0) split.filled = 0;  // for the next run of the list
    }
    __device__ __forceinline__ BackwardUnit wait_for_unit(std::uint32_t n) {
        mbarrier_wait(&shared_.announced[n % unit_slots], n / unit_slots & 1);
        return shared_.units[n % unit_slots];
    }
    /// Asks for the keys and values of unit n.
    __device__ __forceinline__ void load(std::uint32_t n, const CUtensorMap& k_map, const CUtensorMap& v_map) {
        const BackwardUnit unit = wait_for_unit(n);
        if (unit.item_count < 0) return;
        load_keys_and_values(shared_, key_run<K>(args_, args_.lists.items[unit.first_item]), k_map, v_map);
    }
    __device__ __forceinline__ const TileInfo& wait_for_tile() {
        mbarrier_wait(&shared_.full[tile_ % S::stages], tile_ / S::stages & 1);
        return info(tile_);
    }
    __device__ __forceinline__ const TileInfo& info(std::uint32_t tile) const {
        return shared_.tiles.of(tile);
    }
    __device__ __forceinline__ void release_tile(std::uint32_t tile) {
        mbarrier_arrive(&shared_.empty[tile % S::stages]);
    }
    __device__ __forceinline__ void wait_for_team() const {
        named_barrier(consumer_barrier + S::team(), S::consumer_threads);
    }
    /// Warpgroups in step give a tile back when they have begun the next one, others when they are done with it.
    __device__ __forceinline__ void skip_tile() {
        if (!S::split_columns) {
            release_tile(tile_);
        } else if (tile_ > 0) {
            release_tile(tile_ - 1);
        }
        if constexpr (S::split_keys) {
            mbarrier_arrive(&shared_.ready[stage()]);
            if (turn(tile_)) mbarrier_arrive(&shared_.drained[stage()]);
        }
        ++tile_;
    }
    /// Rows of P^T, 64 keys x 64 queries, from those of S^T.
    __device__ __forceinline__ void probabilities_of_tile(const float2 (&offsets)[8], const float* lse, bool own,
                                                          int last_key, float (&scores)[32]) const {
        if (own) mask_own(last_key, scores);
        if constexpr (M == Mode::last) hide_behind_run(scores);
        if constexpr (M == Mode::any) {
            probabilities_of_blocks(scores);
        } else {
            probabilities(offsets, lse, scores);
        }
    }
    /// All tiles of a unit. A warpgroup waits for each of its products in turn: the other one fills the tensor cores
    /// meanwhile. Where they share a unit they take turns with dQ, and neither waits for the other one's dS of a tile
    /// before it is done with the next tile.
    __device__ __forceinline__ void add_tiles(float (&dk)[columns / 2], float (&dv)[columns / 2]) {
        bool first = true, last = false;
        do {
            wait_for_tile();
            fence_async_proxy();  // what cp.async wrote is read by products
            float scores[32], d_probabilities[32];
            wgmma_fence();
            score_product(scores, shared_.k, shared_.q[stage()]);
            wgmma_commit();
            score_product(d_probabilities, shared_.v, shared_.d_out[stage()]);
            wgmma_commit();
            if (adds_to_partials<M> && turn(tile_)) prefetch_dq(info(tile_));
            const float* const lse = shared_.rows[stage()].lse[warp_block()];
            float2 offsets[8];
            load_offsets<early>(lse, offsets);
            const bool own = info(tile_).own;
            const int last_key = info(tile_).last_key;
            wgmma_wait<1>();
            wgmma_keep(scores);
            probabilities_of_tile(offsets, lse, own, last_key, scores);
            std::uint32_t packed[4][4];
            pack_fragments(scores, packed);
            wgmma_fence();
            gradient_product(dv, packed, descriptor_mn_major(shared_.d_out[stage()], row_panel_bytes));
            wgmma_commit();
            const float* const dot = shared_.rows[stage()].dot;
            load_offsets<2 * early>(dot, offsets);
            wgmma_wait<1>();
            wgmma_keep(d_probabilities);
            d_scores(offsets, dot, packed, d_probabilities);
            std::uint32_t d_packed[4][4];
            pack_fragments(d_probabilities, d_packed);
            wgmma_fence();
            gradient_product(dk, d_packed, descriptor_mn_major(shared_.q[stage()], row_panel_bytes));
            wgmma_commit();
            publish_d_scores(d_packed);
            last = info(tile_).last;
            wgmma_wait<0>();  // dQ needs the registers of P and dS
            wgmma_keep(dv);
            wgmma_keep(dk);
            release_tile(tile_);  // dQ reads keys and dS alone
            if constexpr (S::split_keys) {
                const std::uint32_t tile = turn(tile_) ? tile_ : tile_ - 1;
                if (tile == tile_ ? last : !first) add_dq(tile);
                first = false;
            } else {
                add_dq(tile_);
            }
            ++tile_;
        } while (!last);
    }
    /// Whether this warpgroup computes dQ of the tile.
    static __device__ __forceinline__ bool turn(std::uint32_t tile) {
        return tile % 2 == static_cast<std::uint32_t>(group());
    }
    __device__ __forceinline__ void publish_d_scores(const std::uint32_t (&packed)[4][4]) {
        if constexpr (S::split_keys) {
            mbarrier_wait(&shared_.drained[stage()], (tile_ / S::stages & 1) ^ 1);
            store_d_scores(shared_.d_scores[stage()], packed);
            fence_async_proxy();
            mbarrier_arrive(&shared_.ready[stage()]);
        } else {
            wait_for_team();  // nobody reads dS of the tile before any more
            store_d_scores(shared_.d_scores[0], packed);
            fence_async_proxy();
            wait_for_team();
        }
    }
    /// All of dQ of a tile.
    __device__ __forceinline__ void add_dq(std::uint32_t tile) {
        const TileInfo info = this->info(tile);
        const int buffer = S::split_keys ? static_cast<int>(tile % S::stages) : 0;
        float dq[S::dq_part / 2];
        if constexpr (adds_to_partials<M>) load_dq(info, dq);
        if constexpr (S::split_keys) mbarrier_wait(&shared_.ready[buffer], tile / S::stages & 1);
        wgmma_fence();
        dq_product(dq, shared_.d_scores[buffer], 0);
        wgmma_commit();
        wgmma_wait<0>();
        wgmma_keep(dq);
        if constexpr (S::split_keys) mbarrier_arrive(&shared_.drained[buffer]);
        store_dq(dq, info, 0);
    }
    /// The same where two warpgroups split columns, and so go from tile to tile in step. The last product of a tile,
    /// dK, goes on while the next tile's first ones are issued.
    __device__ __forceinline__ void add_tiles_in_step(float (&dk)[columns / 2], float (&dv)[columns / 2]) {
        bool last = false;
        do {
            wait_for_tile();
            fence_async_proxy();  // what cp.async wrote is read by products
            float scores[32], d_probabilities[32];
            wgmma_fence();
            score_product(scores, shared_.k, shared_.q[stage()]);
            wgmma_commit();
            score_product(d_probabilities, shared_.v, shared_.d_out[stage()]);
            wgmma_commit();
            // What comes from shared memory is asked for before each wait: it takes its time beside the tensor cores.
            const TileInfo& tile = info(tile_);
            const bool own = tile.own;
            const int last_key = tile.last_key;
            const float* const lse = shared_.rows[stage()].lse[warp_block()];
            float2 offsets[8];
            load_offsets<early>(lse, offsets);
            wgmma_wait<2>();
            wgmma_keep(dk);
            if (tile_ > 0) release_tile(tile_ - 1);
            wgmma_wait<1>();
            wgmma_keep(scores);
            probabilities_of_tile(offsets, lse, own, last_key, scores);
            std::uint32_t packed[4][4];
            pack_fragments(scores, packed);
            wgmma_fence();
            gradient_product(
                dv, packed,
                descriptor_mn_major(shared_.d_out[stage()] + column_panel() * row_panel_bytes, row_panel_bytes));
            wgmma_commit();
            const float* const dot = shared_.rows[stage()].dot;
            load_offsets<2 * early>(dot, offsets);
            wgmma_wait<1>();
            wgmma_keep(d_probabilities);
            d_scores(offsets, dot, packed, d_probabilities);
            std::uint32_t d_packed[4][4];
            pack_fragments(d_probabilities, d_packed);
            store_d_scores(shared_.d_scores[tile_ % 2], d_packed);
            fence_async_proxy();
            wait_for_team();
            const TileInfo info = this->info(tile_);
            last = info.last;
#pragma unroll
            for (int column = 0; column < columns; column += S::dq_part) {
                const bool last_part = column + S::dq_part == columns;
                float dq[S::dq_part / 2];
                wgmma_fence();
                dq_product(dq, shared_.d_scores[tile_ % 2], group() * columns + column);
                wgmma_commit();
                if (last_part) {
                    key_gradient_product(dk, tile_);
                    wgmma_commit();
                }
                if (last_part) {
                    wgmma_wait<1>();
                } else {
                    wgmma_wait<0>();
                }
                wgmma_keep(dq);
                store_dq(dq, info, group() * columns + column);
            }
            wgmma_keep(dv);
            ++tile_;
        } while (!last);
        wgmma_wait<0>();
        wgmma_keep(dk);
    }
    __device__ __forceinline__ int stage() const {
        return static_cast<int>(tile_ % S::stages);
    }
    static __device__ __forceinline__ int first_key() {
        return S::split_keys ? 64 * group() : 0;
    }
    __device__ __forceinline__ int exchange_panel() const {
        return S::split_keys ? group() * row_panel_bytes : 0;
    }
    __device__ __forceinline__ int column_panel() const {
        return S::split_columns ? group() * (columns / panel_columns) : 0;
    }

    /// 64 keys x 64 queries.
    static __device__ __forceinline__ void score_product(float (&scores)[32], const std::byte* key_tile,
                                                         const std::byte* query_tile) {
        const UniformDescriptor keys(descriptor_k_major(key_tile + first_key() * 128));
        const UniformDescriptor queries(descriptor_k_major(query_tile));
#pragma unroll
        for (int s = 0; s < P / 16; ++s) {
            Wgmma<T, 64, false>::shared(scores, keys.at(s / 4 * S::key_panel_bytes + s % 4 * 32),
                                        queries.at(s / 4 * row_panel_bytes + s % 4 * 32), s > 0);
        }
    }
    /// 64 keys x columns, over 64 queries.
    static __device__ __forceinline__ void gradient_product(float (&sum)[columns / 2],
                                                            const std::uint32_t (&weights)[4][4],
                                                            std::uint64_t descriptor) {
        const UniformDescriptor queries(descriptor);
#pragma unroll
        for (int s = 0; s < 4; ++s) {
            Wgmma<T, columns, true>::registers_a(sum, weights[s], queries.at(s * 2048), 1);
        }
    }
    /// The same with dS from shared memory, where it lies for dQ: registers of an operand could not be used again
    /// before the product is done, and it is done in the next tile.
    __device__ __forceinline__ void key_gradient_product(float (&sum)[columns / 2], std::uint32_t tile) const {
        const std::byte* const exchange = shared_.d_scores[tile % 2] + exchange_panel();
        const std::byte* const q = shared_.q[tile % S::stages] + column_panel() * row_panel_bytes;
        const UniformDescriptor d_scores(descriptor_mn_major(exchange, row_panel_bytes));
        const UniformDescriptor queries(descriptor_mn_major(q, row_panel_bytes));
#pragma unroll
        for (int s = 0; s < 4; ++s) {
            Wgmma<T, columns, true>::shared_transposed_a(sum, d_scores.at(s * 2048), queries.at(s * 2048), 1);
        }
    }
    /// 64 queries x the columns from `column` on, over the keys of the run.
    __device__ __forceinline__ void dq_product(float (&dq)[S::dq_part / 2], const std::byte* exchange,
                                               int column) const {
        const UniformDescriptor d_scores(descriptor_k_major(exchange));
        const UniformDescriptor keys(descriptor_mn_major(
            shared_.k + column / panel_columns * S::key_panel_bytes + column % panel_columns * 2, S::key_panel_bytes));
#pragma unroll
        for (int s = 0; s < S::keys / 16; ++s) {
            Wgmma<T, S::dq_part, true>::shared(dq, d_scores.at(s / 4 * row_panel_bytes + s % 4 * 32), keys.at(s * 2048),
                                               adds_to_partials<M> || s > 0);
        }
    }

    /// Element 4 j + 2 h + i is key first_key() + 16 warp + lane / 4 + 8 h, query 8 j + 2 (lane % 4) + i.
    __device__ __forceinline__ void probabilities(const float2 (&loaded)[8], const float* lse,
                                                  float (&scores)[32]) const {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const float2 offset = j < early ? loaded[j] : Consumer::offset(lse, j);
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                float* const pair = scores + 4 * j + 2 * h;
                pair[0] = exp2_approx(fmaf(pair[0], args_.scale_log2, -offset.x));
                pair[1] = exp2_approx(fmaf(pair[1], args_.scale_log2, -offset.y));
            }
        }
    }
    /// The same where the thread's two keys may lie in different blocks, or behind the last key of the sequence.
    __device__ __forceinline__ void probabilities_of_blocks(float (&scores)[32]) const {
        const int keys = info(tile_).keys + args_.run * S::keys;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int key = key_of_list(h);
            const float* const lse = shared_.rows[stage()].lse[block_of(key < keys ? key : args_.keys_per_list)];
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                const float2 offset = Consumer::offset(lse, j);
                float* const pair = scores + 4 * j + 2 * h;
                pair[0] = exp2_approx(fmaf(pair[0], args_.scale_log2, -offset.x));
                pair[1] = exp2_approx(fmaf(pair[1], args_.scale_log2, -offset.y));
            }
        }
    }
    /// Of the thread's accumulator rows lane / 4 + 8 h.
    __device__ __forceinline__ int key_of_list(int h) const {
        return args_.run * S::keys + first_key() + 16 * warp() + computed_here(lane()) / 4 + 8 * h;
    }
    /// Of the list; their number for a key behind the last one.
    __device__ __forceinline__ int block_of(int key) const {
        return args_.block.divide(min(key, args_.keys_per_list));
    }
    /// Of the queries 8 j + 2 (lane % 4) + {0, 1}.
    static __device__ __forceinline__ float2 offset(const float* of_rows, int j) {
        return *reinterpret_cast<const float2*>(of_rows + 8 * j + 2 * (lane() % 4));
    }
    template <int Count>
    static __device__ __forceinline__ void load_offsets(const float* of_rows, float2 (&offsets)[8]) {
#pragma unroll
        for (int j = 0; j < Count; ++j) offsets[j] = offset(of_rows, j);
    }
    /// Of the list: the block in which the warp's 16 keys lie.
    __device__ __forceinline__ int warp_block() const {
        return M == Mode::parts ? (args_.run * S::keys + first_key() + 16 * warp()) >> (__ffs(args_.block_size) - 1)
                                : 0;
    }
    /// A query sees the keys up to its own one, of its own block.
    __device__ __forceinline__ void mask_own(int last_key, float (&scores)[32]) const {
        const int warp_key = first_key() + 16 * warp(), key0 = warp_key + lane() / 4;
        const int first = last_key + computed_here(2 * (lane() % 4));
        if constexpr (M == Mode::any) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const int block_end = (block_of(key_of_list(h)) + 1) * args_.block_size - args_.run * S::keys;
#pragma unroll
                for (int i = 2 * h; i < 32; i += i % 2 == 0 ? 1 : 3) {
                    const int own_key = first + 8 * (i / 4) + i % 2;
                    if (own_key < key0 + 8 * h || own_key >= block_end) scores[i] = -INFINITY;
                }
            }
        } else {
            const int block_end = (warp_key | (args_.block_size - 1)) + 1;
#pragma unroll
            for (int i = 0; i < 32; ++i) {
                const int own_key = first + 8 * (i / 4) + i % 2;
                if (own_key < key0 + 8 * (i / 2 % 2) || (M == Mode::parts && own_key >= block_end)) {
                    scores[i] = -INFINITY;
                }
            }
        }
    }
    /// Keys that are not the list's or the sequence's: zeros in shared memory, whose P need not be finite.
    __device__ __forceinline__ void hide_behind_run(float (&scores)[32]) const {
        const int keys = info(tile_).keys;
        const int key0 = first_key() + 16 * warp() + lane() / 4;
#pragma unroll
        for (int i = 0; i < 32; ++i) {
            if (key0 + 8 * (i / 2 % 2) >= keys) scores[i] = -INFINITY;
        }
    }
    /// dP -> dS = P (dP - D). P is what dV gets, rounded: in fp32 it would take 16 registers more than there are.
    static __device__ __forceinline__ void d_scores(const float2 (&loaded)[8], const float* dot,
                                                    const std::uint32_t (&packed)[4][4], float (&d_probability)[32]) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const float2 offset = j < 2 * early ? loaded[j] : Consumer::offset(dot, j);
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const int at = 4 * j + 2 * h;
                const float2 probability = unpack<T>(packed[j / 2][j % 2 * 2 + h]);
                d_probability[at] = probability.x * (d_probability[at] - offset.x);
                d_probability[at + 1] = probability.y * (d_probability[at + 1] - offset.y);
            }
        }
    }
    static __device__ __forceinline__ void pack_fragments(const float (&values)[32], std::uint32_t (&packed)[4][4]) {
#pragma unroll
        for (int s = 0; s < 4; ++s) {
#pragma unroll
            for (int r = 0; r < 4; ++r) {
                packed[s][r] = pack<T>(values[8 * s + 2 * r], values[8 * s + 2 * r + 1]);
                asm volatile("" : "+r"(packed[s][r]));  // one register, not two halves
            }
        }
    }
    /// dS, [query][key] in the swizzle: fragment r of step s is keys 8 (r % 2).. of the warp, queries 16 s + 8 (r /
    /// 2)...
    __device__ __forceinline__ void store_d_scores(std::byte* exchange, const std::uint32_t (&packed)[4][4]) const {
        if (S::split_columns && group() > 0) return;  // both have the same
        // With parts there are no registers to keep what hangs on it.
        const int thread = has_parts<M> ? computed_here(this->thread()) : this->thread();
        const int row = thread % 32 / 16 * 8 + thread % 8, chunk = 2 * (thread / 32 % 4) + thread / 8 % 2;
        std::byte* const place = exchange + exchange_panel() + row * 128 + (chunk ^ (row % 8)) * 16;
#pragma unroll
        for (int s = 0; s < 4; ++s) {
            stmatrix_x4_transposed(place + s * 2048, packed[s][0], packed[s][1], packed[s][2], packed[s][3]);
        }
    }
    static __device__ __forceinline__ void unpack_piece(uint4 piece, float (&element)[8]) {
        const std::uint32_t word[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float2 pair = unpack<T>(word[i]);
            element[2 * i] = pair.x;
            element[2 * i + 1] = pair.y;
        }
    }
    /// What load_dq will read, to L2.
    __device__ __forceinline__ void prefetch_dq(const TileInfo& info) const {
        constexpr int lines = P * 2 / 128;  // of a row
        const int place = computed_here(thread() % 128);
        const int row = place / lines, line = place % lines;
        if (row < info.rows && line * 64 < args_.columns)
            prefetch_l2(info.dq + static_cast<std::uint32_t>(row) * info.pitch * std::uint64_t{16} + line * 128);
    }
    /// What earlier runs have found, as a sum that dq_product adds to.
    __device__ __forceinline__ void load_dq(const TileInfo& info, float (&dq)[S::dq_part / 2]) const {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            __syncwarp();  // one row after the other: there are no registers for what both ask for
#pragma unroll
            for (int m = 0; m < S::dq_part / 32; ++m) {
                float before[8];
                load_piece(info, h, 32 * m, before);
#pragma unroll
                for (int i = 0; i < 8; ++i) dq[4 * (4 * m + i / 2) + 2 * h + i % 2] = before[i] * args_.unscale;
            }
        }
    }
    /// Rows and columns that do not exist repeat the last ones: no branch keeps one load from being asked for before
    /// another has come.
    __device__ __forceinline__ void load_piece(const TileInfo& info, int h, int column, float (&before)[8]) const {
        const char* const pieces = dq_pieces(info, min(dq_row(h), info.rows - 1));
        unpack_piece(__ldcg(reinterpret_cast<const uint4*>(pieces + min(column, args_.columns - 32) * 2)), before);
    }
    __device__ __forceinline__ void store_dq(const float (&dq)[S::dq_part / 2], const TileInfo& info,
                                             int first_column) const {
        constexpr int pieces_of_row = S::dq_part / 32;
        float before[2][pieces_of_row][8] = {};
        if (S::split_columns && args_.run > 0) {
#pragma unroll
            for (int i = 0; i < 2 * pieces_of_row; ++i) {
                load_piece(info, i % 2, first_column + 32 * (i / 2), before[i % 2][i / 2]);
            }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            if (dq_row(h) >= info.rows) continue;
            char* const pieces = dq_pieces(info, dq_row(h));
#pragma unroll
            for (int m = 0; m < pieces_of_row; ++m) {
                const int column = first_column + 32 * m;
                if (column >= args_.columns) continue;
                std::uint32_t word[4];
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int at = 4 * (4 * m + i) + 2 * h;
                    word[i] = pack<T>(fmaf(dq[at], args_.scale, before[h][m][2 * i]),
                                      fmaf(dq[at + 1], args_.scale, before[h][m][2 * i + 1]));
                }
                store_streaming(reinterpret_cast<uint4*>(pieces + column * 2),
                                make_uint4(word[0], word[1], word[2], word[3]));
            }
        }
    }
    /// Of the thread's elements 4 j + 2 h + {0, 1} of dQ.
    static __device__ __forceinline__ int dq_row(int h) {
        return 16 * warp() + lane() / 4 + 8 * h;
    }
    static __device__ __forceinline__ char* dq_pieces(const TileInfo& info, int row) {
        return info.dq + (static_cast<std::uint32_t>(row) * info.pitch + lane() % 4) * std::uint64_t{16};
    }

    const BlockBackwardArgs& args_;
    Shared<P, K, M>& shared_;
    // Computed where they are needed: registers are short.
    /// Of the team.
    static __device__ __forceinline__ int thread() {
        return static_cast<int>(S::teams == 1 ? threadIdx.x : threadIdx.x % S::consumer_threads);
    }
    static __device__ __forceinline__ int group() {
        return S::groups == 1 ? 0 : thread() / 128;
    }
    static __device__ __forceinline__ int warp() {
        return static_cast<int>(threadIdx.x) / 32 % 4;
    }
    static __device__ __forceinline__ int lane() {
        return static_cast<int>(threadIdx.x) % 32;
    }

    std::uint32_t tile_ = 0;
};

}  // namespace
}  // namespace mobalab::kernels::cuda
