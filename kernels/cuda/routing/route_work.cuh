#pragma once

#include <cstdint>

#include "kernels/cuda/tile/block_divisor.h"
#include "kernels/cuda/tile/candidates.h"
#include "kernels/cuda/tile/sequences.h"

// What the routing kernel is given, how its shared memory is laid out, and how work is dealt to thread blocks.
namespace mobalab::kernels::cuda {

struct RouteParams {
    Sequences sequences;
    std::int32_t heads_q, heads_per_key_head, slots;
    std::int32_t first_block;                   // of those that are scored; 1: block 0 has a slot before the list
    Candidates blocks;                          // of a row
    std::int32_t ragged;                        // columns by which candidates of a warp's rows differ beyond one block
    std::uint32_t slots_inverse;                // ceil(2^20 / slots): divides up to 2^10 by a multiplication
    std::int32_t columns_max;                   // (sub-)blocks of the longest sequence
    const std::int32_t* column_base;            // null: sequence b starts at column b * columns_max
    std::int32_t row_tiles;                     // items per (sequence, head)
    std::int32_t step_b, step_head, step_tile;  // from one item of a thread block to its next
    std::int64_t tokens_q;
    std::int32_t* selection;
    float* scores;
    std::uint64_t seed;  // of Scoring::hashes
    // Of Scoring::best_of_group:
    std::int32_t sub_shift;       // log2 of a block's columns
    std::int32_t sub_block_keys;  // of a column; 0: every column of a candidate has keys (causal, or one a block)
    BlockDivisor sub_blocks;      // by that
    // Of kernels that store scores, a thread block an item:
    std::int32_t first_item;
    std::int32_t score_pitch;  // columns of a row
    float* all_scores;         // [items of the launch, rows of an item, score_pitch]
};

inline constexpr int route_box_blocks = 64;  // centroids of one copy
inline constexpr int route_group_rows = 64;
inline constexpr int route_warp_rows = 16;

/// What the columns of a tile are, and what they are multiplied with.
enum class Scoring {
    products,       ///< blocks; the query with each of Parts
    ranges,         ///< blocks; max(q, 0) with the first part, min(q, 0) with the second
    best_of_group,  ///< sub-blocks; the best of a block's 2^sub_shift is its score
    hashes,         ///< blocks; nothing is multiplied or loaded
};

/// Shapes of one instantiation: HeadDim is padded to a multiple of 64. Groups take turns with the buffers of queries
/// where these are fewer. Parts: tensors of summaries; of Scoring::products 1, or 2 with low halves of centroids.
template <int HeadDim_, typename TopK_, int Groups_, int QueryStages_, int CentroidStages_, int Parts_,
          Scoring scoring_ = Scoring::products>
struct RouteShape {
    using TopK = TopK_;
    static constexpr Scoring scoring = scoring_;
    static constexpr bool divides = scoring == Scoring::best_of_group;
    static constexpr int HeadDim = HeadDim_, Groups = Groups_;
    static constexpr int QueryStages = QueryStages_, CentroidStages = CentroidStages_;
    static constexpr int Parts = Parts_;
    static_assert(CentroidStages >= Parts);
    static constexpr int query_turns = Groups / QueryStages;  // of a buffer in an item
    static_assert(Groups % QueryStages == 0 && query_turns <= 2);
    static constexpr int rows = Groups * route_group_rows;
    static constexpr int threads = (Groups + 1) * 128;
    // A thread starts with 65536 / threads registers, in steps of 8; with more than one group the producers give theirs
    // to the consumers.
    static constexpr int producer_registers = 24;
    static constexpr int consumer_registers = Groups == 4 ? 112 : Groups == 3 ? 160 : 240;
    static constexpr int tile_blocks = TopK::tile_blocks;
    static constexpr int steps = HeadDim / 16;  // products of a tile, one behind the other
    static constexpr int panels = HeadDim / 64;
    static constexpr int query_panel_bytes = route_group_rows * 128;
    static constexpr int query_bytes = panels * query_panel_bytes;  // of a group
    static constexpr int centroid_panel_bytes = tile_blocks * 128;
    static constexpr int centroid_bytes = panels * centroid_panel_bytes;
    static constexpr int barriers = Groups + QueryStages + 2 * CentroidStages + (divides ? 1 : 0);
    static constexpr int shared_bytes = QueryStages * query_bytes + CentroidStages * centroid_bytes +
                                        Groups * 4 * TopK::shared_bytes + barriers * 8 + 4;
    static_assert(shared_bytes <= 227 * 1024);
};

template <typename Shape>
struct RouteShared {
    unsigned char* queries;
    unsigned char* centroids;
    unsigned char* top_k;
    std::uint64_t *query_full, *query_empty;  // of each group, of each buffer
    std::uint64_t *centroid_full, *centroid_empty;
    std::uint64_t* last_tile_arrived;  // where Shape::divides: before its last block is filled up
    /// Holds the address of `centroids`. Loaded once: what the compiler knows how to compute, it computes for every
    /// tile.
    std::uint32_t* centroids_address;
    /// Bytes from `centroids` to `centroid_full`; `centroid_empty` follows.
    static constexpr int full_after_centroids = Shape::CentroidStages * Shape::centroid_bytes +
                                                Shape::Groups * 4 * Shape::TopK::shared_bytes +
                                                (Shape::Groups + Shape::QueryStages) * 8;

    __device__ __forceinline__ explicit RouteShared(unsigned char* raw) {
        queries = raw;
        centroids = queries + Shape::QueryStages * Shape::query_bytes;
        top_k = centroids + Shape::CentroidStages * Shape::centroid_bytes;
        query_full = reinterpret_cast<std::uint64_t*>(top_k + Shape::Groups * 4 * Shape::TopK::shared_bytes);
        query_empty = query_full + Shape::Groups;
        centroid_full = reinterpret_cast<std::uint64_t*>(centroids + full_after_centroids);
        centroid_empty = centroid_full + Shape::CentroidStages;
        last_tile_arrived = centroid_empty + Shape::CentroidStages;
        centroids_address = reinterpret_cast<std::uint32_t*>(last_tile_arrived + (Shape::divides ? 1 : 0));
    }
};

/// A position in a ring of barriers.
template <int Stages>
struct RingIndex {
    int stage = 0;
    std::uint32_t parity = 0;
    __device__ __forceinline__ void advance() {
        if (++stage == Stages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/// The items of a thread block, one after the other: every gridDim.x-th of (sequence, head, rows), without divisions.
struct RouteCursor {
    int b, head, tile;

    __device__ __forceinline__ RouteCursor(const RouteParams& p, int index) {
        const int pair = index / p.row_tiles;
        tile = index % p.row_tiles;
        head = pair % p.heads_q;
        b = pair / p.heads_q;
    }
    __device__ __forceinline__ bool valid(const RouteParams& p) const { return b < p.sequences.batch; }
    __device__ __forceinline__ void advance(const RouteParams& p) {
        b += p.step_b;
        head += p.step_head;
        tile += p.step_tile;
        if (tile >= p.row_tiles) {
            tile -= p.row_tiles;
            ++head;
        }
        if (head >= p.heads_q) {
            head -= p.heads_q;
            ++b;
        }
    }
};

template <typename Shape>
__device__ __forceinline__ RouteCursor first_item(const RouteParams& p) {
    const int index = static_cast<int>(blockIdx.x);
    return {p, Shape::TopK::stores_scores ? p.first_item + index : index};
}

/// What producer and consumers derive alike from an item's place.
template <typename Shape>
struct RouteItem {
    Sequence sequence;
    int b, head;
    int row0;    ///< first row, may be past the sequence
    int tiles;   ///< centroid tiles that some row of the item needs
    int passes;  ///< over these tiles

    __device__ __forceinline__ RouteItem(const RouteParams& p, const RouteCursor& at)
        : sequence(p.sequences.at(at.b)), b(at.b), head(at.head) {
        row0 = (p.row_tiles - 1 - at.tile) * Shape::rows;  // long rows first
        const int last = min(row0 + Shape::rows, sequence.sq) - 1;
        tiles = last < row0 ? 0 : (candidates(p, last) + Shape::tile_blocks - 1) / Shape::tile_blocks;
        passes = Shape::TopK::surveys && tiles > 2 ? 2 : 1;  // one that keeps nothing of two tiles is not worth it
    }
    /// The blocks that a row may select; 0 of a row past the sequence or before every key.
    __device__ __forceinline__ int candidate_blocks(const RouteParams& p, int row) const {
        return row < sequence.sq ? p.blocks.of_row(sequence, row) : 0;
    }
    /// Columns of the blocks that are scored for a row; column 0 is the first of block p.first_block.
    __device__ __forceinline__ int candidates(const RouteParams& p, int row) const {
        const int blocks = max(candidate_blocks(p, row) - p.first_block, 0);
        return Shape::scoring == Scoring::best_of_group ? blocks << p.sub_shift : blocks;
    }
    /// Columns up to the last key of the sequence, counted like those: the last block may have fewer than the others.
    __device__ __forceinline__ int columns_with_keys(const RouteParams& p) const {
        return p.sub_blocks.divide(sequence.sk + p.sub_block_keys - 1) - (p.first_block << p.sub_shift);
    }
};

}  // namespace mobalab::kernels::cuda
