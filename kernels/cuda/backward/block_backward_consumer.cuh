#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/backward/block_backward_shared.cuh"
#include "kernels/cuda/backward/key_gradient.cuh"
#include "kernels/cuda/forward/partial_store.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"

// Tiles into gradients: the five products.
namespace mobalab::kernels::cuda {
namespace {

using namespace ptx;

template <typename T, int P, int K, Mode M>
class Consumer {
    using S = Shape<P, K, M>;
    static constexpr int columns = S::key_gradient_columns;
    static constexpr int early = adds_to_gathered<M> || M == Mode::any ? 0 : 4;  // pairs of offsets

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
            } else if constexpr (S::groups == 1) {
                add_tiles_alone(dk, dv);
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
        return shared_.tiles[tile_ % S::stages];
    }
    __device__ __forceinline__ void release_tile(std::uint32_t tile) {
        mbarrier_arrive(&shared_.empty[tile % S::stages]);
    }
    __device__ __forceinline__ void wait_for_team() const {
        named_barrier(consumer_barrier + S::team(), S::consumer_threads);
    }
    /// One warpgroup gives a tile back when it is done with it, two when they have begun the next one.
    __device__ __forceinline__ void skip_tile() {
        if (S::groups == 1) {
            release_tile(tile_);
        } else if (tile_ > 0) {
            release_tile(tile_ - 1);
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
    /// All tiles of a unit, by a warpgroup that is a team: the other one fills the tensor cores while this one waits.
    __device__ __forceinline__ void add_tiles_alone(float (&dk)[columns / 2], float (&dv)[columns / 2]) {
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
            const float* const lse = shared_.rows[stage()].lse[warp_block()];
            float2 offsets[8];
            load_offsets<early>(lse, offsets);
            const bool own = shared_.tiles[stage()].own;
            const int last_key = shared_.tiles[stage()].last_key;
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
            wait_for_team();  // nobody reads dS of the tile before any more
            store_d_scores(shared_.d_scores[0], d_packed);
            fence_async_proxy();
            wait_for_team();
            const TileInfo info = shared_.tiles[stage()];
            last = info.last;
            wgmma_wait<0>();  // dQ needs the registers of P and dS
            wgmma_keep(dv);
            wgmma_keep(dk);
            release_tile(tile_);  // dQ reads keys and dS alone
            float dq[S::dq_part / 2];
            wgmma_fence();
            dq_product(dq, shared_.d_scores[0], 0);
            wgmma_commit();
            wgmma_wait<0>();
            wgmma_keep(dq);
            store_dq(dq, info, 0, 0);
            ++tile_;
        } while (!last);
    }
    /// The same where two warpgroups share a unit. The last product of a tile, dK, goes on while the next tile's first
    /// ones are issued.
    __device__ __forceinline__ void add_tiles(float (&dk)[columns / 2], float (&dv)[columns / 2]) {
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
            const TileInfo& tile = shared_.tiles[stage()];
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
            float dq[S::dq_part / 2];
#pragma unroll
            for (int column = 0; column < S::dq_columns; column += S::dq_part) {
                const bool last_part = column + S::dq_part == S::dq_columns;
                wgmma_fence();
                dq_product(dq, shared_.d_scores[tile_ % 2], group() * S::dq_columns + column);
                wgmma_commit();
                if (last_part) {
                    key_gradient_product(dk, tile_);
                    wgmma_commit();
                }
                const TileInfo info = shared_.tiles[stage()];
                last = info.last;
                if (last_part) {
                    wgmma_wait<1>();
                } else {
                    wgmma_wait<0>();
                }
                wgmma_keep(dq);
                store_dq(dq, info, stage(), group() * S::dq_columns + column);
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
                                               s > 0);
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
        const int keys = shared_.tiles[stage()].keys + args_.run * S::keys;
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
        return args_.run * S::keys + first_key() + 16 * warp() + lane() / 4 + 8 * h;
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
        const int first = last_key + 2 * (lane() % 4);
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
        const int keys = shared_.tiles[stage()].keys;
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
            }
        }
    }
    /// dS, [query][key] in the swizzle: fragment r of step s is keys 8 (r % 2).. of the warp, queries 16 s + 8 (r /
    /// 2)...
    __device__ __forceinline__ void store_d_scores(std::byte* exchange, const std::uint32_t (&packed)[4][4]) const {
        if (S::split_columns && group() > 0) return;  // both have the same
        const int row = lane() / 16 * 8 + lane() % 8, chunk = 2 * warp() + lane() / 8 % 2;
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
    __device__ __forceinline__ void store_dq(const float (&dq)[S::dq_part / 2], const TileInfo& info, int stage,
                                             int first_column) const {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int row = 16 * warp() + lane() / 4 + 8 * h;
            if (row >= info.rows) continue;
            char* const pieces =
                info.dq + (static_cast<std::uint32_t>(row) * info.pitch + lane() % 4) * std::uint64_t{16};
#pragma unroll
            for (int m = 0; m < S::dq_part / 32; ++m) {
                const int column = first_column + 32 * m;
                if (column >= args_.columns) continue;
                uint4* const place = reinterpret_cast<uint4*>(pieces + column * 2);
                float before[8] = {};
                if constexpr (adds_to_gathered<M>) {
                    const std::byte* const panel = shared_.partials[stage] + column / panel_columns * row_panel_bytes;
                    const int piece = column % panel_columns / 8 + lane() % 4;
                    unpack_piece(*reinterpret_cast<const uint4*>(panel + row * 128 + (piece ^ (row % 8)) * 16), before);
                } else if (P > widest_split_head && args_.run > 0) {
                    unpack_piece(*place, before);
                }
                std::uint32_t word[4];
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int at = 4 * (4 * m + i) + 2 * h;
                    word[i] = pack<T>(fmaf(dq[at], args_.scale, before[2 * i]),
                                      fmaf(dq[at + 1], args_.scale, before[2 * i + 1]));
                }
                store_streaming(place, make_uint4(word[0], word[1], word[2], word[3]));
            }
        }
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
