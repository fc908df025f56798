#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/backward/block_backward.h"

// Units of work into tiles of queries.
namespace mobalab::kernels::cuda::portable {

constexpr std::uint32_t all_blocks = 0xff000000u;  // mask of an entry

/// Some queries of one item: own ones (their own block holds the run) or listed ones.
struct alignas(16) QueryTile {
    const char* q_rows = nullptr;            ///< query row 0 of the sequence under the item's head
    const char* d_out_rows = nullptr;        ///< likewise
    const float2* lse_dot = nullptr;         ///< likewise
    const std::uint32_t* entries = nullptr;  ///< listed: of the first row
    char* dq = nullptr;                      ///< partial of the first row, and
    std::int64_t pitch = 0;                  ///< bytes to the next one
    std::int32_t rows = 0;                   ///< 0: there is no such tile
    std::int32_t first_query = 0;            ///< own: query row of the first row
    std::int32_t last_key = 0;               ///< own: key of the run that the first row sees last
    bool own = false;

    /// List entry of a row, that of the last one for rows that do not exist.
    __device__ __forceinline__ std::uint32_t entry(int row) const {
        const int real = min(row, rows - 1);
        return own ? all_blocks | static_cast<std::uint32_t>(first_query + real) : __ldg(entries + real);
    }
};

/// The tiles of a unit one after the other: of every item the own queries, then the listed ones. One thread walks, in
/// memory that nothing was made in: begin() comes first.
template <int TileRows, int RunKeys>
class TileWalk {
public:
    __device__ void begin(const BackwardUnit& unit) {
        of_item_ = {};
        item_ = unit.first_item;
        end_item_ = unit.first_item + unit.item_count;
        own_ = own_end_ = row_ = row_end_ = 0;
    }
    __device__ QueryTile next(const BlockBackwardArgs& args) {
        while (own_ >= own_end_ && row_ >= row_end_) {
            if (item_ == end_item_) return {};
            open(args, args.lists.items[item_++]);
        }
        QueryTile tile = of_item_;
        if (own_ < own_end_) {
            tile.own = true;
            tile.rows = min(own_end_ - own_, TileRows);
            tile.first_query = own_;
            tile.last_key = own_ - diagonal_;
            tile.pitch = args.dq.stride.token;
            tile.dq = own_dq_ + own_ * tile.pitch;
            own_ += TileRows;
        } else {
            tile.rows = min(row_end_ - row_, TileRows);
            tile.entries = args.lists.entries + row_;
            tile.pitch = args.columns * std::int64_t{2};
            tile.dq = args.partials + row_ * tile.pitch;
            row_ += TileRows;
        }
        return tile;
    }

private:
    __device__ void open(const BlockBackwardArgs& args, const ListItem& item) {
        const Sequence sequence = args.sequences.at(item.sequence);
        diagonal_ = item.list * args.keys_per_list + args.run * RunKeys - sequence.shift();
        own_ = max(item.own_begin, diagonal_);
        own_end_ = item.own_end;
        row_ = item.first_row;
        row_end_ = item.first_row + item.rows;
        own_dq_ = args.dq.row(item.head, sequence.q);
        of_item_.q_rows = args.q.row(item.head, sequence.q);
        of_item_.d_out_rows = args.d_out.row(item.head, sequence.q);
        of_item_.lse_dot = args.lse_dot + item.head * args.tokens_q + sequence.q_begin;
    }

    QueryTile of_item_;
    char* own_dq_;
    std::int32_t item_, end_item_;  ///< items not begun
    std::int32_t own_, own_end_;    ///< own queries left of the one in work
    std::int32_t row_, row_end_;    ///< list rows left of it
    std::int32_t diagonal_;         ///< query row that sees the first key of the run last
};

}  // namespace mobalab::kernels::cuda::portable
