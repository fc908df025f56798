#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/backward/block_backward_shared.cuh"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"

// Units into tiles: draws units of work and gathers the rows of their queries.
namespace mobalab::kernels::cuda {
namespace {

using namespace ptx;

/// One of the producer warps of a team: as large a part of the rows of every tile.
template <int P, int K, Mode M>
class Producer {
    using S = Shape<P, K, M>;
    static constexpr int rows_of_warp = S::rows_per_warp;
    static constexpr int pieces = P / 8, rows_per_step = 32 / pieces, steps = rows_of_warp / rows_per_step;

public:
    __device__ Producer(const BlockBackwardArgs& args, Shared<P, K, M>& shared, int warp, int lane)
        : args_(args), shared_(shared), warp_(warp), lane_(lane) {}

    __device__ void run() {
        draw();
        for (std::uint32_t n = 0;; ++n) {
            BackwardUnit& slot = shared_.units[n % unit_slots];
            if (leads()) {
                BackwardUnit unit;
                unit.item_count = -1;
                if (drawn_ < args_.units.counts[0]) unit = args_.units.units[drawn_];
                slot = unit;
                mbarrier_arrive(&shared_.announced[n % unit_slots]);
            }
            mbarrier_wait(&shared_.announced[n % unit_slots], n / unit_slots & 1);
            __syncwarp();
            if (slot.item_count < 0) break;
            const int last = last_item_with_tiles(slot);
            for (int i = 0; i <= last; ++i) produce(args_.lists.items[slot.first_item + i], i == last);
            if (last < 0) produce_nothing();
        }
        cp_async_wait_all();
    }

private:
    /// The number of the next unit, before the last tile of this one: its latency passes behind that tile. Not earlier:
    /// who works on a long unit would take a second long one from those who are done.
    __device__ __forceinline__ void draw() {
        if (leads()) drawn_ = atomicAdd(args_.units.counts + 1 + args_.run, 1);
    }
    /// -1: no query of the unit sees a key of this launch's run.
    __device__ __forceinline__ int last_item_with_tiles(const BackwardUnit& unit) const {
        int last = unit.item_count - 1;
        for (; last >= 0; --last) {
            const ListItem& item = args_.lists.items[unit.first_item + last];
            if (key_run<K>(args_, item).keys > 0 && (item.rows > 0 || item.own_end > own_begin(item))) break;
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
        const int head = item.head, first_row = item.first_row, rows = item.rows;
        const int row = rows_of_warp * warp_ + lane_ % rows_of_warp;
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
                entry = all_blocks | static_cast<std::uint32_t>(own_begin + own_row + min(row, tile - 1));
            } else if (begin + tile_rows < rows) {
                next = __ldg(args_.lists.entries + first_row + min(begin + tile_rows + row, rows - 1));
            }
            const bool last = last_item && begin + tile_rows >= rows;
            if (last) draw();
            const int stage = wait_for_stage();
            if (leads()) {
                TileInfo& info = shared_.tiles.of(tile_);
                const std::int64_t pitch = args_.columns * 2;
                info.dq = own ? args_.dq.row(head, sequence.q.from(own_begin + own_row))
                              : args_.partials + (first_row + begin) * pitch;
                info.pitch = pieces_of(own ? args_.dq.stride.token : pitch);
                info.rows = tile;
                info.last_key = own_begin + own_row - diagonal;
                info.own = own;
                info.last = last;
                if constexpr (ends_with_sequence<M>) info.keys = key_run<K>(args_, item).keys;
            }
            gather(stage, head, sequence, entry, tile);
        }
    }

    /// A tile without rows, the only one of its unit.
    __device__ __forceinline__ void produce_nothing() {
        draw();
        const int stage = wait_for_stage();
        if (leads()) shared_.tiles.of(tile_) = {nullptr, 0, 0, 0, false, true, 0};
        announce(stage);
    }

    __device__ __forceinline__ bool leads() const { return warp_ == 0 && lane_ == 0; }
    __device__ __forceinline__ int wait_for_stage() const {
        const std::uint32_t stage = tile_ % S::stages;
        mbarrier_wait(&shared_.empty[stage], (tile_ / S::stages & 1) ^ 1);
        return static_cast<int>(stage);
    }

    /// entry: of the row of this lane % rows_of_warp among the warp's; rows that do not exist repeat the last one.
    __device__ __forceinline__ void gather(int stage, int head, const Sequence& sequence, std::uint32_t entry,
                                           int rows) {
        const std::uint32_t query = entry_query(entry);
        gather_rows(stage, args_.q.row(head, sequence.q), args_.d_out.row(head, sequence.q), query);
        if (lane_ < rows_of_warp)
            gather_lse_dot(stage, args_.lse_dot + head * args_.tokens_q + sequence.q_begin + query, entry, rows);
        announce(stage);
    }
    /// query: of the row of this lane % rows_of_warp.
    __device__ __forceinline__ void gather_rows(int stage, const char* q, const char* d_out, std::uint32_t query) {
        const int piece = lane_ % pieces;
        q += piece * 16;
        d_out += piece * 16;
        asm("" : "+l"(q), "+l"(d_out));  // register pairs, not constants to add every time
        const bool has_q = piece < args_.head_dim / 8, has_d_out = piece < args_.value_dim / 8;
        const std::uint32_t q_pitch = pieces_of(args_.q.stride.token),
                            d_out_pitch = pieces_of(args_.d_out.stride.token);
#pragma unroll 4
        for (int step = 0; step < steps; ++step) {
            const int row = step * rows_per_step;
            const std::uint64_t from = __shfl_sync(0xffffffffu, query * 16, row + lane_ / pieces);
            if (has_q) cp_async_16(place_of(shared_.q[stage], row), q + from * q_pitch);
            if (has_d_out) cp_async_16(place_of(shared_.d_out[stage], row), d_out + from * d_out_pitch);
        }
    }
    /// Where this lane's piece of a row of the warp goes; row: a multiple of rows_per_step, and the lane may be one or
    /// more behind it. Chunk lane % 8 of row r stands at chunk (lane % 8) ^ (r % 8).
    __device__ __forceinline__ std::byte* place_of(std::byte* tile, int row) const {
        const int first = lane_ / pieces;  // pieces is a multiple of 8
        const int chunk = ((lane_ % 8) ^ first) * 16;
        return tile + lane_ % pieces / 8 * row_panel_bytes + (warp_ * rows_of_warp + first) * 128 + row * 128 +
               (chunk ^ row % 8 * 16);
    }
    /// Infinite where there is no row or the block was not selected: P = exp2(-inf) = 0.
    __device__ __forceinline__ void gather_lse_dot(int stage, const float2* source, std::uint32_t entry,
                                                   int rows) const {
        const int row = rows_of_warp * warp_ + lane_;
        RowData<M>& data = shared_.rows[stage];
        const bool exists = row < rows;
        // Behind the last block of a list: infinite for listed queries, and hidden from own ones by their own key.
        const int blocks = has_parts<M> ? args_.keys_per_list / args_.block_size + (M == Mode::any ? 1 : 0) : 1;
        for (int block = 0; block < blocks; ++block) {
            if (exists && (!has_parts<M> || (entry_mask(entry) >> block & 1u) != 0)) {
                cp_async_4(&data.lse[block][row], &source->x);
            } else {
                data.lse[block][row] = INFINITY;
            }
        }
        if (exists) {
            cp_async_4(&data.dot[row], &source->y);
        } else {
            data.dot[row] = 0.0f;
        }
    }
    static __device__ __forceinline__ std::uint32_t pieces_of(std::int64_t bytes) {
        return static_cast<std::uint32_t>(bytes / 16);
    }

    /// Tells the consumers of the tile, once its copies are done: this thread does not wait for them. Its own stores
    /// are announced by an arrival of their own.
    __device__ __forceinline__ void announce(int stage) {
        cp_async_arrive(&shared_.full[stage]);
        mbarrier_arrive(&shared_.full[stage]);
        ++tile_;
    }

    const BlockBackwardArgs& args_;
    Shared<P, K, M>& shared_;
    const int warp_, lane_;
    std::uint32_t tile_ = 0;  ///< issued so far
    int drawn_ = 0;           ///< in the thread that leads
};

}  // namespace
}  // namespace mobalab::kernels::cuda
