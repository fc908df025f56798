#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/block_backward.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/partial_store.cuh"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"
#include "kernels/cuda/quad_transpose.cuh"
#include "kernels/cuda/status.h"

// Persistent, warp-specialised block_backward for Hopper.
//
// Four producer warps draw units and gather the rows of q and d_out of 64 queries (cp.async into the 128-byte swizzle,
// several stages). Two consumer warpgroups compute S^T = K Q^T and dP^T = V dO^T with keys as rows, so that P^T is a
// register operand of dV += P^T dO. dS goes through shared memory once, transposed, for dQ = dS K and dK += dS^T Q. Up
// to head_dim 128 the warpgroups split the 128 keys of a run; above they split the columns of dK and dV of a
// run of 64 keys, and each computes all of S. Either way each computes half of the columns of dQ.
//
// Synchronisation
//   announced[n % 8]   unit n is in units[n % 8]                       producer warp 0 -> everyone
//   full[t % stages]   tile t is gathered and described                every producer thread -> consumers
//   empty[t % stages]  nobody reads it any more                        every consumer thread -> producers
//   kv_loaded          keys and values of the unit have come           copy engine -> consumers
// A tile is given back while the next one is in work: its last product, dK, goes on under the next one's first. A
// unit's slot is free when unit n + 8 is announced: by then the producers have gathered a tile of each of the units n +
// 1 to n + 7 (a unit has at least one), and the stages for these came from consumers that were done with unit n. Keys
// and values are loaded by a consumer thread once both warpgroups are done with those of the last unit.
namespace mobalab::kernels::cuda {
namespace {

using namespace ptx;

constexpr int consumer_groups = 2;
constexpr int consumer_threads = 128 * consumer_groups;
constexpr int producer_warps = 4;
constexpr int threads_per_block = consumer_threads + 32 * producer_warps;
constexpr int unit_slots = 8;
constexpr int tile_rows = list_tile_rows;
constexpr int panel_columns = 64;                               // 128 bytes: the widest row of the swizzle
constexpr int row_panel_bytes = tile_rows * panel_columns * 2;  // of a tile of queries
constexpr int consumer_barrier = 1;

enum class Mode {
    whole,  ///< blocks of 128 keys or more
    parts,  ///< smaller ones
    more,   ///< runs after the first one of larger ones, up to head_dim 128: adds to partials, gathered like the rest
};

/// P: head_dim padded to 64, 128 or 256.
template <int P, Mode M = Mode::whole>
struct Shape {
    static constexpr bool split_keys = P <= widest_split_head;
    static constexpr int keys = keys_per_backward_run(P);
    static constexpr int panels = P / panel_columns;
    static constexpr int key_panel_bytes = keys * panel_columns * 2;
    static constexpr int producer_registers = P <= 64 ? 56 : 40, consumer_registers = P <= 64 ? 224 : 232;
    static constexpr int stages = P <= 128 && M != Mode::more ? 3 : 2;
    static constexpr int key_gradient_columns = split_keys ? P : P / 2;  // of one warpgroup
    static constexpr int dq_columns = P / 2;                             // of one warpgroup
    static constexpr int dq_part = P == 128 ? 64 : 32;                   // at a time: registers
    static constexpr int score_panels = keys / panel_columns;            // of dS, [query][key]
};

/// What consumers need to know of a tile.
struct TileInfo {
    char* dq = nullptr;      ///< partial of its first row, and
    std::int64_t pitch = 0;  ///< bytes to the next one
    std::int32_t rows = 0;
    std::int32_t last_key = 0;  ///< own tile: last key of the run the first row sees
    bool own = false;
    bool last = false;  ///< of the unit
};

struct alignas(16) RowData {
    float lse[tile_rows];  ///< times log2(e)
    float dot[tile_rows];  ///< d_out . out
    std::uint32_t masks[tile_rows];
};

template <int P, Mode M>
struct Shared {
    using S = Shape<P, M>;
    alignas(1024) std::byte k[S::panels * S::key_panel_bytes];
    alignas(1024) std::byte v[S::panels * S::key_panel_bytes];
    alignas(1024) std::byte q[S::stages][S::panels * row_panel_bytes];
    alignas(1024) std::byte d_out[S::stages][S::panels * row_panel_bytes];
    alignas(
        128) std::byte partials[M == Mode::more ? S::stages : 1][M == Mode::more ? S::panels * row_panel_bytes : 128];
    alignas(1024) std::byte d_scores[2][S::score_panels * row_panel_bytes];
    RowData rows[S::stages];
    TileInfo tiles[S::stages];
    BackwardUnit units[unit_slots];
    std::uint64_t announced[unit_slots];
    std::uint64_t full[S::stages];
    std::uint64_t empty[S::stages];
    std::uint64_t kv_loaded;
};

template <int P, Mode M>
constexpr std::size_t shared_bytes = sizeof(Shared<P, M>) + 1024;  // dynamic memory may begin anywhere

__device__ __forceinline__ void cp_async_4(void* shared, const void* global) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}

__device__ __forceinline__ int tiles_of(int rows) {
    return (rows + tile_rows - 1) / tile_rows;
}

/// The keys of a unit in this launch.
struct KeyRun {
    std::int32_t key_head, key_token;
    std::int32_t keys;  ///< inside the sequence; not positive: none
};

template <int P>
__device__ __forceinline__ KeyRun key_run(const BlockBackwardArgs& args, const ListItem& item) {
    const Sequence sequence = args.sequences.at(item.sequence);
    const int first = item.list * args.keys_per_list + args.run * Shape<P>::keys;
    return {item.head / args.query_heads_per_key_head, sequence.k_begin + first,
            min(Shape<P>::keys, sequence.sk - first)};
}

/// One of the producer warps: a quarter of the rows of every tile.
template <int P, Mode M>
class Producer {
    using S = Shape<P, M>;
    static constexpr int pieces = P / 8, rows_per_step = 32 / pieces, steps = 16 / rows_per_step;

public:
    __device__ Producer(const BlockBackwardArgs& args, Shared<P, M>& shared, int warp, int lane)
        : args_(args), shared_(shared), warp_(warp), lane_(lane) {}

    __device__ void run() {
        const int count = args_.units.counts[0];
        int drawn = 0;
        if (warp_ == 0 && lane_ == 0) drawn = atomicAdd(args_.units.counts + 2, 1);
        for (std::uint32_t n = 0;; ++n) {
            BackwardUnit& slot = shared_.units[n % unit_slots];
            if (warp_ == 0 && lane_ == 0) {
                BackwardUnit unit;
                unit.item_count = -1;
                if (drawn < count) {
                    unit = args_.units.units[args_.units.counts[3] + drawn];
                    drawn = atomicAdd(args_.units.counts + 2, 1);  // its latency passes behind this unit's tiles
                }
                slot = unit;
                mbarrier_arrive(&shared_.announced[n % unit_slots]);
            }
            mbarrier_wait(&shared_.announced[n % unit_slots], n / unit_slots & 1);
            __syncwarp();
            if (slot.item_count < 0) return;
            const int last = last_item_with_tiles(slot);
            for (int i = 0; i <= last; ++i) produce(args_.lists.items[slot.first_item + i], i == last);
            if (last < 0) produce_nothing();
            signal_all();
        }
    }

private:
    /// -1: no query of the unit sees a key of this launch's run.
    __device__ __forceinline__ int last_item_with_tiles(const BackwardUnit& unit) const {
        int last = unit.item_count - 1;
        for (; last >= 0; --last) {
            const ListItem& item = args_.lists.items[unit.first_item + last];
            if (key_run<P>(args_, item).keys > 0 && (item.rows > 0 || item.own_end > own_begin(item))) break;
        }
        return last;
    }
    __device__ __forceinline__ int first_key(const ListItem& item) const {
        return item.list * args_.keys_per_list + args_.run * S::keys;
    }
    __device__ __forceinline__ int own_begin(const ListItem& item) const {
        return max(item.own_begin, first_key(item) - args_.sequences.at(item.sequence).shift());
    }

    __device__ __forceinline__ void produce(const ListItem& item, bool last_item) {
        const Sequence sequence = args_.sequences.at(item.sequence);
        const int diagonal = first_key(item) - sequence.shift();
        const int own_begin = max(item.own_begin, diagonal), own_rows = max(item.own_end - own_begin, 0);
        const int head = item.head, q_begin = sequence.q_begin, first_row = item.first_row, rows = item.rows;
        const int row = 16 * warp_ + lane_ % 16;
        // Entries are asked for one tile early.
        std::uint32_t next = rows > 0 ? __ldg(args_.lists.entries + first_row + min(row, rows - 1)) : 0;

        // Own tiles lie before row 0 of the list.
        const int own_padded = tiles_of(own_rows) * tile_rows;
        for (int begin = -own_padded; begin < rows; begin += tile_rows) {
            const bool own = begin < 0;
            const int own_row = begin + own_padded;
            const int tile = min((own ? own_rows - own_row : rows - begin), tile_rows);
            std::uint32_t entry = next;
            if (own) {
                entry = static_cast<std::uint32_t>(own_begin + own_row + min(row, tile - 1));
            } else if (begin + tile_rows < rows) {
                next = __ldg(args_.lists.entries + first_row + min(begin + tile_rows + row, rows - 1));
            }
            const int stage = wait_for_stage();
            if (leads()) {
                TileInfo& info = shared_.tiles[stage];
                const std::int64_t pitch = args_.head_dim * 2;
                info.dq = own ? args_.dq.row(head, q_begin + own_begin + own_row)
                              : args_.partials + (first_row + begin) * pitch;
                info.pitch = own ? args_.dq.stride_token : pitch;
                info.rows = tile;
                info.last_key = own_begin + own_row - diagonal;
                info.own = own;
                info.last = last_item && begin + tile_rows >= rows;
            }
            if constexpr (M == Mode::more) {
                const std::int64_t pitch = args_.head_dim * 2;
                gather_partials(stage,
                                own ? args_.dq.row(head, q_begin + own_begin + own_row)
                                    : args_.partials + (first_row + begin) * pitch,
                                own ? args_.dq.stride_token : pitch, tile);
            }
            gather(stage, head, q_begin, entry, tile);
        }
    }

    /// A tile without rows, the only one of its unit.
    __device__ __forceinline__ void produce_nothing() {
        const int stage = wait_for_stage();
        if (leads()) shared_.tiles[stage] = {nullptr, 0, 0, 0, false, true};
        cp_async_commit();
        ++tile_;
        signal_previous();
    }

    __device__ __forceinline__ bool leads() const { return warp_ == 0 && lane_ == 0; }
    __device__ __forceinline__ int wait_for_stage() const {
        const std::uint32_t stage = tile_ % S::stages;
        mbarrier_wait(&shared_.empty[stage], (tile_ / S::stages & 1) ^ 1);
        return static_cast<int>(stage);
    }

    /// entry: of the row of this lane % 16 among the warp's 16; rows that do not exist repeat the last one.
    __device__ __forceinline__ void gather(int stage, int head, int q_begin, std::uint32_t entry, int rows) {
        const std::uint32_t query = entry_query(entry);
        const int piece = lane_ % pieces;
        const int place = piece / 8 * row_panel_bytes + warp_ * (16 * 128);
        const bool exists = piece < args_.head_dim / 8;
        gather_rows(shared_.q[stage] + place, args_.q.row(head, q_begin) + piece * 16, args_.q.stride_token, query,
                    exists);
        gather_rows(shared_.d_out[stage] + place, args_.d_out.row(head, q_begin) + piece * 16, args_.d_out.stride_token,
                    query, exists);
        if (lane_ < 16) {
            const int row = 16 * warp_ + lane_;
            RowData& data = shared_.rows[stage];
            data.masks[row] = entry_mask(entry);
            if (row < rows) {
                const float2* const source = args_.lse_dot + head * args_.tokens_q + q_begin + query;
                cp_async_4(&data.lse[row], &source->x);
                cp_async_4(&data.dot[row], &source->y);
            } else {  // P = exp2(-inf) = 0
                data.lse[row] = INFINITY;
                data.dot[row] = 0.0f;
            }
        }
        cp_async_commit();
        ++tile_;
        signal_previous();
    }
    __device__ __forceinline__ void gather_partials(int stage, const char* first, std::int64_t pitch, int rows) const {
        const int piece = lane_ % pieces;
        const auto row = static_cast<std::uint32_t>(min(16 * warp_ + lane_ % 16, rows - 1));
        gather_rows(shared_.partials[stage] + piece / 8 * row_panel_bytes + warp_ * (16 * 128), first + piece * 16,
                    pitch, row, piece < args_.head_dim / 8);
    }
    __device__ __forceinline__ void gather_rows(std::byte* place, const char* source, std::int64_t stride_token,
                                                std::uint32_t query, bool exists) const {
#pragma unroll 4
        for (int step = 0; step < steps; ++step) {
            const int row = step * rows_per_step + lane_ / pieces;
            const std::uint32_t from = __shfl_sync(0xffffffffu, query, row);
            const int to = row * 128 + ((lane_ % 8) ^ (row % 8)) * 16;  // pieces is a multiple of 8
            if (exists) cp_async_16(place + to, source + from * stride_token);
        }
    }

    /// Tells the consumers of the tile before the last one, or of all. They give a stage back only after they were told
    /// of the next tile, so with two stages nothing may be held back.
    __device__ __forceinline__ void signal_previous() {
        if (S::stages > 2 && unsignalled_) signal<1>(tile_ - 2);
        unsignalled_ = true;
        if (S::stages == 2) signal_all();
    }
    __device__ __forceinline__ void signal_all() {
        if (unsignalled_) signal<0>(tile_ - 1);
        unsignalled_ = false;
    }
    template <int Pending>
    __device__ __forceinline__ void signal(std::uint32_t tile) {
        cp_async_wait<Pending>();
        fence_async_proxy();
        mbarrier_arrive(&shared_.full[tile % S::stages]);
    }

    const BlockBackwardArgs& args_;
    Shared<P, M>& shared_;
    const int warp_, lane_;
    std::uint32_t tile_ = 0;    ///< issued so far
    bool unsignalled_ = false;  ///< the last one
};

template <int P, Mode M>
__device__ __forceinline__ void load_keys_and_values(Shared<P, M>& shared, const KeyRun& run, const CUtensorMap& k_map,
                                                     const CUtensorMap& v_map) {
    using S = Shape<P>;
    mbarrier_arrive_expect(&shared.kv_loaded, 2 * sizeof(shared.k));
#pragma unroll
    for (int p = 0; p < S::panels; ++p) {
        tensor_load_3d(shared.k + p * S::key_panel_bytes, &k_map, p * panel_columns, run.key_head, run.key_token,
                       &shared.kv_loaded);
        tensor_load_3d(shared.v + p * S::key_panel_bytes, &v_map, p * panel_columns, run.key_head, run.key_token,
                       &shared.kv_loaded);
    }
}

/// Keys past the end of the sequence belong to the next one: 0 * inf must not reach this one.
template <int P, Mode M>
__device__ __forceinline__ void clear_keys_from(Shared<P, M>& shared, int keys, int thread) {
    using S = Shape<P>;
    const int pieces = (S::keys - keys) * 8;
    for (int p = 0; p < S::panels; ++p) {
        uint4* const k = reinterpret_cast<uint4*>(shared.k + p * S::key_panel_bytes + keys * 128);
        uint4* const v = reinterpret_cast<uint4*>(shared.v + p * S::key_panel_bytes + keys * 128);
        for (int i = thread; i < pieces; i += consumer_threads) {
            k[i] = make_uint4(0, 0, 0, 0);
            v[i] = make_uint4(0, 0, 0, 0);
        }
    }
}

/// Where a thread's part of a run's dK and dV lies: accumulator rows lane / 4 + {0, 8} of its warp, columns of its
/// group.
template <int P>
struct KeyGradientPlace {
    int first_key, first_column;

    __device__ __forceinline__ KeyGradientPlace(int thread) {
        const int group = thread / 128, warp = thread / 32 % 4, lane = thread % 32;
        first_key = (Shape<P>::split_keys ? 64 * group : 0) + 16 * warp + lane / 4;
        first_column = Shape<P>::split_keys ? 0 : group * Shape<P>::key_gradient_columns;
    }
};

template <typename T, int P>
__device__ __forceinline__ void store_rows(const RowTensor& tensor, const KeyRun& run, int head_dim, float scale,
                                           const float (&sum)[Shape<P>::key_gradient_columns / 2], int thread) {
    const KeyGradientPlace<P> place(thread);
    const int lane = thread % 32;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int key = place.first_key + 8 * h;
        char* const row = tensor.row(run.key_head, run.key_token + key) + (lane % 4) * 16;
#pragma unroll
        for (int m = 0; m < Shape<P>::key_gradient_columns / 32; ++m) {
            std::uint32_t word[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = 4 * (4 * m + i) + 2 * h;
                word[i] = pack<T>(sum[at] * scale, sum[at + 1] * scale);
            }
            const uint4 piece = quad_transpose(make_uint4(word[0], word[1], word[2], word[3]), lane);
            const int column = place.first_column + 32 * m;
            if (key < run.keys && column < head_dim) *reinterpret_cast<uint4*>(row + column * 2) = piece;
        }
    }
}

/// Scratch of one run: [matrix][float4][thread].
template <int P>
__device__ __forceinline__ float4* slot_of(const BlockBackwardArgs& args, int slot, int matrix, int thread) {
    constexpr int vectors = Shape<P>::key_gradient_columns / 8;
    return reinterpret_cast<float4*>(args.slots + slot * slot_elements(P)) + matrix * vectors * consumer_threads +
           thread;
}

template <int P>
__device__ __forceinline__ void store_slot(float4* slot, const float (&sum)[Shape<P>::key_gradient_columns / 2]) {
#pragma unroll
    for (int i = 0; i < Shape<P>::key_gradient_columns / 8; ++i) {
        slot[i * consumer_threads] = make_float4(sum[4 * i], sum[4 * i + 1], sum[4 * i + 2], sum[4 * i + 3]);
    }
}

template <typename T, int P, Mode M>
class Consumer {
    using S = Shape<P, M>;
    static constexpr int columns = S::key_gradient_columns;

public:
    __device__ Consumer(const BlockBackwardArgs& args, Shared<P, M>& shared) : args_(args), shared_(shared) {}

    __device__ void run(const CUtensorMap& k_map, const CUtensorMap& v_map) {
        if (thread() == 0) load(0, k_map, v_map);
        for (std::uint32_t n = 0;; ++n) {
            const BackwardUnit unit = wait_for_unit(n);
            if (unit.item_count < 0) return;
            const KeyRun keys = key_run<P>(args_, args_.lists.items[unit.first_item]);
            mbarrier_wait(&shared_.kv_loaded, n & 1);
            if (keys.keys < S::keys) {
                clear_keys_from(shared_, max(keys.keys, 0), thread());
                fence_async_proxy();
                named_barrier(consumer_barrier, consumer_threads);
            }
            float dk[columns / 2], dv[columns / 2];
#pragma unroll
            for (int i = 0; i < columns / 2; ++i) dk[i] = dv[i] = 0.0f;
            if (wait_for_tile().rows > 0) {
                add_tiles(dk, dv);
            } else {
                if (tile_ > 0) release_tile(tile_ - 1);
                ++tile_;
            }
            named_barrier(consumer_barrier, consumer_threads);  // nobody reads keys and values any more
            if (thread() == 0) load(n + 1, k_map, v_map);
            __syncwarp();
            store(n, dk, dv);
        }
    }

private:
    /// Reads the unit again rather than keep it in registers.
    __device__ __forceinline__ void store(std::uint32_t n, const float (&dk)[columns / 2],
                                          const float (&dv)[columns / 2]) {
        const BackwardUnit unit = shared_.units[n % unit_slots];
        const KeyRun keys = key_run<P>(args_, args_.lists.items[unit.first_item]);
        if (unit.slot < 0) {
            store_rows<T, P>(args_.dk, keys, args_.head_dim, args_.scale, dk, thread());
            store_rows<T, P>(args_.dv, keys, args_.head_dim, 1.0f, dv, thread());
        } else {
            store_slot<P>(slot_of<P>(args_, unit.slot, 0, thread()), dk);
            store_slot<P>(slot_of<P>(args_, unit.slot, 1, thread()), dv);
        }
    }
    __device__ __forceinline__ BackwardUnit wait_for_unit(std::uint32_t n) {
        mbarrier_wait(&shared_.announced[n % unit_slots], n / unit_slots & 1);
        return shared_.units[n % unit_slots];
    }
    /// Asks for the keys and values of unit n.
    __device__ __forceinline__ void load(std::uint32_t n, const CUtensorMap& k_map, const CUtensorMap& v_map) {
        const BackwardUnit unit = wait_for_unit(n);
        if (unit.item_count < 0) return;
        load_keys_and_values(shared_, key_run<P>(args_, args_.lists.items[unit.first_item]), k_map, v_map);
    }
    __device__ __forceinline__ const TileInfo& wait_for_tile() {
        mbarrier_wait(&shared_.full[tile_ % S::stages], tile_ / S::stages & 1);
        return shared_.tiles[tile_ % S::stages];
    }
    __device__ __forceinline__ void release_tile(std::uint32_t tile) {
        mbarrier_arrive(&shared_.empty[tile % S::stages]);
    }
    /// All tiles of a unit. The last product of a tile, dK, goes on while the next tile's first ones are issued.
    __device__ __forceinline__ void add_tiles(float (&dk)[columns / 2], float (&dv)[columns / 2]) {
        do {
            const TileInfo& info = wait_for_tile();
            const int stage = static_cast<int>(tile_ % S::stages);
            float scores[32], d_probabilities[32];
            const std::uint64_t k_rows = descriptor_k_major(shared_.k + first_key() * 128);
            const std::uint64_t v_rows = descriptor_k_major(shared_.v + first_key() * 128);
            const std::uint64_t q_rows = descriptor_k_major(shared_.q[stage]);
            const std::uint64_t d_out_rows = descriptor_k_major(shared_.d_out[stage]);
            wgmma_fence();
            score_product(scores, k_rows, q_rows);
            wgmma_commit();
            score_product(d_probabilities, v_rows, d_out_rows);
            wgmma_commit();
            wgmma_wait<2>();
            wgmma_keep(dk);
            if (tile_ > 0) release_tile(tile_ - 1);
            const std::uint32_t selected = M == Mode::parts && !info.own ? selected_queries(stage) : ~0u;
            wgmma_wait<1>();
            wgmma_keep(scores);
            probabilities(info, stage, selected, scores);

            const std::uint64_t d_out_columns =
                descriptor_mn_major(shared_.d_out[stage] + column_panel() * row_panel_bytes, row_panel_bytes);
            std::uint32_t packed[4][4];
            pack_fragments(scores, packed);
            wgmma_fence();
            gradient_product(dv, packed, d_out_columns);
            wgmma_commit();
            wgmma_wait<1>();
            wgmma_keep(d_probabilities);
            d_scores(stage, packed, d_probabilities);

            std::uint32_t d_packed[4][4];
            pack_fragments(d_probabilities, d_packed);
            std::byte* const exchange = shared_.d_scores[tile_ % 2];
            store_d_scores(exchange, d_packed);
            fence_async_proxy();
            named_barrier(consumer_barrier, consumer_threads);

            const std::uint64_t q_columns =
                descriptor_mn_major(shared_.q[stage] + column_panel() * row_panel_bytes, row_panel_bytes);
            float dq[S::dq_part / 2];
#pragma unroll
            for (int column = 0; column < S::dq_columns; column += S::dq_part) {
                const bool last_part = column + S::dq_part == S::dq_columns;
                wgmma_fence();
                dq_product(dq, exchange, group() * S::dq_columns + column);
                wgmma_commit();
                if (last_part) {
                    key_gradient_product(dk, exchange, q_columns);
                    wgmma_commit();
                    wgmma_wait<1>();
                } else {
                    wgmma_wait<0>();
                }
                wgmma_keep(dq);
                store_dq(info, stage, dq, group() * S::dq_columns + column);
            }
            wgmma_keep(dv);
            ++tile_;
        } while (!shared_.tiles[(tile_ - 1) % S::stages].last);
        wgmma_wait<0>();
        wgmma_keep(dk);
    }

    __device__ __forceinline__ int first_key() const {
        return S::split_keys ? 64 * group() : 0;
    }
    __device__ __forceinline__ int exchange_panel() const {
        return S::split_keys ? group() * row_panel_bytes : 0;
    }
    __device__ __forceinline__ int column_panel() const {
        return S::split_keys ? 0 : group() * (columns / panel_columns);
    }

    /// 64 keys x 64 queries.
    static __device__ __forceinline__ void score_product(float (&scores)[32], std::uint64_t keys,
                                                         std::uint64_t queries) {
#pragma unroll
        for (int s = 0; s < P / 16; ++s) {
            Wgmma<T, 64, false>::shared(scores, descriptor_advance(keys, s / 4 * S::key_panel_bytes + s % 4 * 32),
                                        descriptor_advance(queries, s / 4 * row_panel_bytes + s % 4 * 32), s > 0);
        }
    }
    /// 64 keys x columns, over 64 queries.
    static __device__ __forceinline__ void gradient_product(float (&sum)[columns / 2],
                                                            const std::uint32_t (&weights)[4][4],
                                                            std::uint64_t queries) {
#pragma unroll
        for (int s = 0; s < 4; ++s) {
            Wgmma<T, columns, true>::registers_a(sum, weights[s], descriptor_advance(queries, s * 2048), 1);
        }
    }
    /// The same with dS from shared memory, where it lies for dQ: registers of an operand could not be used again
    /// before the product is done, and it is done in the next tile.
    __device__ __forceinline__ void key_gradient_product(float (&sum)[columns / 2], const std::byte* exchange,
                                                         std::uint64_t queries) const {
        const std::uint64_t d_scores = descriptor_mn_major(exchange + exchange_panel(), row_panel_bytes);
#pragma unroll
        for (int s = 0; s < 4; ++s) {
            Wgmma<T, columns, true>::shared_transposed_a(sum, descriptor_advance(d_scores, s * 2048),
                                                         descriptor_advance(queries, s * 2048), 1);
        }
    }
    /// 64 queries x the columns from `column` on, over the keys of the run.
    __device__ __forceinline__ void dq_product(float (&dq)[S::dq_part / 2], const std::byte* exchange,
                                               int column) const {
        const std::uint64_t d_scores = descriptor_k_major(exchange);
        const std::uint64_t keys = descriptor_mn_major(
            shared_.k + column / panel_columns * S::key_panel_bytes + column % panel_columns * 2, S::key_panel_bytes);
#pragma unroll
        for (int s = 0; s < S::keys / 16; ++s) {
            Wgmma<T, S::dq_part, true>::shared(dq, descriptor_advance(d_scores, s / 4 * row_panel_bytes + s % 4 * 32),
                                               descriptor_advance(keys, s * 2048), s > 0);
        }
    }

    /// Element 4 j + 2 h + i is key first_key() + 16 warp + lane / 4 + 8 h, query 8 j + 2 (lane % 4) + i.
    __device__ __forceinline__ void probabilities(const TileInfo& info, int stage, std::uint32_t selected,
                                                  float (&scores)[32]) const {
        if (info.own) mask_own(info.last_key, scores);
        const float* const lse = shared_.rows[stage].lse + 2 * (lane() % 4);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            float2 offset = *reinterpret_cast<const float2*>(lse + 8 * j);
            if constexpr (M == Mode::parts) {  // P = exp2(-inf) = 0 where the query did not select the block
                if ((selected >> 2 * j & 1u) == 0) offset.x = INFINITY;
                if ((selected >> 2 * j & 2u) == 0) offset.y = INFINITY;
            }
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                float* const pair = scores + 4 * j + 2 * h;
                pair[0] = exp2_approx(fmaf(pair[0], args_.scale_log2, -offset.x));
                pair[1] = exp2_approx(fmaf(pair[1], args_.scale_log2, -offset.y));
            }
        }
    }
    /// Bit 2 j + i: query 8 j + 2 (lane % 4) + i selected the block in which the warp's 16 keys lie.
    __device__ __forceinline__ std::uint32_t selected_queries(int stage) const {
        const int block = (args_.run * S::keys + first_key() + 16 * warp()) >> (__ffs(args_.block_size) - 1);
        const std::uint32_t* const masks = shared_.rows[stage].masks + 2 * (lane() % 4);
        std::uint32_t selected = 0;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const uint2 mask = *reinterpret_cast<const uint2*>(masks + 8 * j);
            selected |= (mask.x >> block & 1u) << 2 * j | (mask.y >> block & 1u) << (2 * j + 1);
        }
        return selected;
    }
    /// A query sees the keys up to its own one, of its own block.
    __device__ __forceinline__ void mask_own(int last_key, float (&scores)[32]) const {
        const int warp_key = first_key() + 16 * warp(), key0 = warp_key + lane() / 4;
        const int block_end = (warp_key | (args_.block_size - 1)) + 1;
        const int first = last_key + 2 * (lane() % 4);
#pragma unroll
        for (int i = 0; i < 32; ++i) {
            const int own_key = first + 8 * (i / 4) + i % 2;
            if (own_key < key0 + 8 * (i / 2 % 2) || (M == Mode::parts && own_key >= block_end)) scores[i] = -INFINITY;
        }
    }
    /// dP -> dS = P (dP - D). P is what dV gets, rounded: in fp32 it would take 16 registers more than there are.
    __device__ __forceinline__ void d_scores(int stage, const std::uint32_t (&packed)[4][4],
                                             float (&d_probability)[32]) const {
        const float* const dot = shared_.rows[stage].dot + 2 * (lane() % 4);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const float2 offset = *reinterpret_cast<const float2*>(dot + 8 * j);
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
        if (!S::split_keys && group() > 0) return;  // both have the same
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
    __device__ __forceinline__ void store_dq(const TileInfo& info, int stage, const float (&dq)[S::dq_part / 2],
                                             int first_column) const {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int row = 16 * warp() + lane() / 4 + 8 * h;
            if (row >= info.rows) continue;
            char* const pieces = info.dq + row * info.pitch + (lane() % 4) * 16;
#pragma unroll
            for (int m = 0; m < S::dq_part / 32; ++m) {
                const int column = first_column + 32 * m;
                if (column >= args_.head_dim) continue;
                uint4* const place = reinterpret_cast<uint4*>(pieces + column * 2);
                float before[8] = {};
                if constexpr (M == Mode::more) {
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
    Shared<P, M>& shared_;
    // Computed where they are needed: registers are short.
    static __device__ __forceinline__ int thread() {
        return static_cast<int>(threadIdx.x);
    }
    static __device__ __forceinline__ int group() {
        return thread() / 128;
    }
    static __device__ __forceinline__ int warp() {
        return thread() / 32 % 4;
    }
    static __device__ __forceinline__ int lane() {
        return thread() % 32;
    }

    std::uint32_t tile_ = 0;
};

template <typename T, int P, Mode M>
__global__ void __launch_bounds__(threads_per_block, 1)
    block_backward_kernel(const __grid_constant__ BlockBackwardArgs args, const __grid_constant__ CUtensorMap k_map,
                          const __grid_constant__ CUtensorMap v_map) {
    extern __shared__ std::byte dynamic[];
    const std::uint32_t misaligned = shared_address(dynamic) % 1024;
    Shared<P, M>& shared = *reinterpret_cast<Shared<P, M>*>(dynamic + (1024 - misaligned) % 1024);
    const int thread = static_cast<int>(threadIdx.x);

    if (thread == 0) {
        for (std::uint64_t& barrier : shared.announced) mbarrier_init(&barrier, 1);
        for (std::uint64_t& barrier : shared.full) mbarrier_init(&barrier, 32 * producer_warps);
        for (std::uint64_t& barrier : shared.empty) mbarrier_init(&barrier, consumer_threads);
        mbarrier_init(&shared.kv_loaded, 1);
        fence_mbarrier_init();
    }
    if (args.head_dim < P) {  // columns that are never gathered
        uint4* const tiles = reinterpret_cast<uint4*>(shared.q);
        for (unsigned i = threadIdx.x; i < 2 * sizeof(shared.q) / 16; i += threads_per_block) {
            tiles[i] = make_uint4(0, 0, 0, 0);
        }
    }
    fence_async_proxy();
    wait_for_previous_kernel();
    let_next_kernel_launch();
    __syncthreads();
    if (thread >= consumer_threads) {
        set_registers_down<Shape<P>::producer_registers>();
        Producer<P, M>(args, shared, thread / 32 - consumer_threads / 32, thread % 32).run();
    } else {
        set_registers_up<Shape<P>::consumer_registers>();
        Consumer<T, P, M>(args, shared).run(k_map, v_map);
    }
}

template <typename T, int P>
__global__ void __launch_bounds__(consumer_threads) sum_splits_kernel(const __grid_constant__ BlockBackwardArgs args) {
    constexpr int vectors = Shape<P>::key_gradient_columns / 8;
    wait_for_previous_kernel();
    let_next_kernel_launch();
    if (static_cast<int>(blockIdx.x) >= args.units.counts[1]) return;
    const SplitRun split = args.units.splits[blockIdx.x];
    const KeyRun keys = key_run<P>(args, args.lists.items[split.item]);
    if (keys.keys <= 0) return;
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll 1
    for (int matrix = 0; matrix < 2; ++matrix) {
        float sum[4 * vectors] = {};
        for (int i = 0; i < split.slots; ++i) {
            const float4* const slot = slot_of<P>(args, split.first_slot + i, matrix, thread);
#pragma unroll
            for (int j = 0; j < vectors; ++j) {
                const float4 part = slot[j * consumer_threads];
                sum[4 * j] += part.x;
                sum[4 * j + 1] += part.y;
                sum[4 * j + 2] += part.z;
                sum[4 * j + 3] += part.w;
            }
        }
        store_rows<T, P>(matrix == 0 ? args.dk : args.dv, keys, args.head_dim, matrix == 0 ? args.scale : 1.0f, sum,
                         thread);
    }
}

template <typename T, int P, Mode M>
Status launch(int multiprocessors, const BlockBackwardArgs& args, const CUtensorMap& k_map, const CUtensorMap& v_map,
              cudaStream_t stream) {
    constexpr std::size_t bytes = shared_bytes<P, M>;
    static_assert(bytes <= 227 * 1024, "more than a thread block can have");
    // What warpgroups take has to be in the block's share, which it gets by launch bounds: 168 registers a thread.
    static_assert(consumer_groups * Shape<P>::consumer_registers + Shape<P>::producer_registers <=
                  threads_per_block / 128 * (65536 / threads_per_block / 8 * 8));
    const auto kernel = block_backward_kernel<T, P, M>;
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (error != cudaSuccess) return device_status(error, "block_backward");
    return launch_early("block_backward", kernel, dim3(static_cast<unsigned>(multiprocessors)), threads_per_block,
                        bytes, stream, args, k_map, v_map);
}

template <typename T, int P>
Status launch_mode(int multiprocessors, const BlockBackwardArgs& args, const CUtensorMap& k_map,
                   const CUtensorMap& v_map, cudaStream_t stream) {
    if (args.block_size < args.keys_per_list) {
        return launch<T, P, Mode::parts>(multiprocessors, args, k_map, v_map, stream);
    }
    if constexpr (P <= widest_split_head) {
        if (args.run > 0) return launch<T, P, Mode::more>(multiprocessors, args, k_map, v_map, stream);
    }
    return launch<T, P, Mode::whole>(multiprocessors, args, k_map, v_map, stream);
}

}  // namespace

template <typename T>
Status launch_block_backward(int multiprocessors, const BlockBackwardArgs& args, const CUtensorMap& k_map,
                             const CUtensorMap& v_map, cudaStream_t stream) {
    switch (padded_head_dim(args.head_dim)) {
        case 64:
            return launch_mode<T, 64>(multiprocessors, args, k_map, v_map, stream);
        case 128:
            return launch_mode<T, 128>(multiprocessors, args, k_map, v_map, stream);
        default:
            return launch_mode<T, 256>(multiprocessors, args, k_map, v_map, stream);
    }
}

template <typename T>
Status launch_sum_splits(const UnitPlan& plan, const BlockBackwardArgs& args, cudaStream_t stream) {
    const auto blocks = static_cast<unsigned>(plan.slots_max + 1) / 2;  // every split run has two slots at least
    const auto launch = [&](auto kernel) {
        return launch_early("sum_splits", kernel, dim3(blocks), consumer_threads, 0, stream, args);
    };
    switch (padded_head_dim(args.head_dim)) {
        case 64:
            return launch(sum_splits_kernel<T, 64>);
        case 128:
            return launch(sum_splits_kernel<T, 128>);
        default:
            return launch(sum_splits_kernel<T, 256>);
    }
}

}  // namespace mobalab::kernels::cuda
