#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/lists/list_items.cuh"
#include "kernels/cuda/lists/selection_rows.cuh"
#include "kernels/cuda/lists/sorted_query.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/tile/block_sum.cuh"
#include "kernels/cuda/tile/computed_here.cuh"

namespace mobalab::kernels::cuda {

/// Shared memory of emit_kernel. Entries are collected in the order of the lists first, so that they leave in runs:
/// single words scattered over memory cost a sector each.
template <int Warps>
struct EmitShared {
    std::uint16_t* places;  // [warps][lists]: entries of a warp so far; then where its first one goes among `staged`
    std::int32_t* next;     // [lists]: row of the next entry
    std::int32_t* shift;    // [lists]: from a place among `staged` to a row
    std::uint32_t* staged;  // [warps][tiles of a warp][rows]: selected blocks; then the entries
    int lists;              // of a row of `places`: whole groups of lists_together

    __device__ EmitShared(const ListParams& p, unsigned char* raw) : lists(whole_groups(p.plan.lists_per_range)) {
        places = reinterpret_cast<std::uint16_t*>(raw);
        next = reinterpret_cast<std::int32_t*>(places + lists * Warps);
        shift = next + lists;
        staged = reinterpret_cast<std::uint32_t*>(shift + lists);
    }
    __device__ __forceinline__ void clear_places() const {
        uint4* const groups = reinterpret_cast<uint4*>(places);
        for (int i = static_cast<int>(threadIdx.x); i < lists * Warps / lists_together; i += Warps * 32) groups[i] = {};
    }
};

/// An entry in 32 bits: list (of the range), mask, and below them its rank among the entries of its warp as long as it
/// waits for its place, then its query, counted from the first that the thread block has.
struct PlacedEntry {
    static constexpr std::uint32_t none = 0xffffffffu, of_other_range = 0xfffffffeu;
    static constexpr int list_bit = 11, mask_bit = 24;
    static_assert(most_lists_per_range < 1 << (mask_bit - list_bit));

    std::uint32_t bits;

    static __device__ __forceinline__ PlacedEntry of(int list, std::uint32_t mask) {
        return {static_cast<std::uint32_t>(list) << list_bit | mask << mask_bit};
    }
    __device__ __forceinline__ bool is_one() const { return bits < of_other_range; }
    __device__ __forceinline__ int list() const {
        return static_cast<int>(bits >> list_bit & ((1u << (mask_bit - list_bit)) - 1));
    }
    __device__ __forceinline__ std::uint32_t low() const { return bits & ((1u << list_bit) - 1); }
    __device__ __forceinline__ PlacedEntry with_low(int low) const {
        return {(bits & ~((1u << list_bit) - 1)) | static_cast<std::uint32_t>(low)};
    }
    /// As attention reads it. row0: of query 0.
    __device__ __forceinline__ std::uint32_t entry(int row0) const {
        return (static_cast<std::uint32_t>(row0) + low()) | (bits >> mask_bit << mask_bit);
    }
};

/// Which pairs of a tile a lane has, once its queries are sorted: some lanes hold a query.
template <int Width>
struct TilePairs {
    static constexpr int lanes = Width < 32 ? Width : 32;  // of a query
    static constexpr int queries = 32 / lanes;             // in a register of a warp
    static constexpr int per_query = Width / lanes;        // registers of a query

    static __device__ __forceinline__ int query(int r) { return r / per_query * queries + lane() / lanes; }
    static __device__ __forceinline__ int slot(int r) { return r % per_query * lanes + lane() % lanes; }
    static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
};

/// Sorts the queries of a tile, whose selected blocks `rows` are, and ranks their entries behind those that the warp
/// has in `places`. Lists of a query differ, and queries come one after the other, so nothing depends on the order in
/// which lanes come.
template <int Width, bool Ranged>
__device__ __forceinline__ void rank_tile(const ListParams& p, const ListRange& range, int candidates,
                                          std::uint32_t* rows, std::uint16_t* places, PlacedEntry (&entry)[Width]) {
    using Pairs = TilePairs<Width>;
    const int stride = row_stride(p.plan.slots);
    std::uint32_t* const row = rows + Pairs::lane() * stride;
    std::uint32_t* to = row;
    SortedQuery<Width>(row, p.plan.slots, candidates).for_each_list(p.list_shift, [&](int list, std::uint32_t mask) {
        *to = !Ranged || range.holds(list) ? PlacedEntry::of(list - (Ranged ? range.first : 0), mask).bits
                                           : PlacedEntry::of_other_range;
        ++to;
    });
    const int lists = static_cast<int>(to - row);
    __syncwarp();
    const std::uint32_t* from = rows + Pairs::query(0) * stride + Pairs::slot(0);
#pragma unroll
    for (int r = 0; r < Width; ++r) {
        const bool exists = Pairs::slot(r) < __shfl_sync(full_warp, lists, Pairs::query(r));
        entry[r].bits = exists ? from[Pairs::slot(r) - Pairs::slot(0)] : PlacedEntry::none;
        if ((r + 1) % Pairs::per_query == 0) from += Pairs::queries * stride;
    }
#pragma unroll
    for (int r = 0; r < Width; ++r) {
        std::uint16_t* const place = places + entry[r].list();
        std::uint32_t rank = 0;
#pragma unroll
        for (int q = 0; q < Pairs::queries; ++q) {
            if (entry[r].is_one() && Pairs::lane() / Pairs::lanes == q) {
                rank = *place;
                *place = static_cast<std::uint16_t>(rank + 1);
            }
            __syncwarp();
        }
        entry[r].bits += rank;
    }
}

/// Neighbours in shared memory that a thread takes together.
template <typename T, int Count>
struct alignas(Count > 4 ? 16 : Count * sizeof(T)) Neighbours {
    T of[Count];
};

/// Turns numbers of entries into places, warp after warp within a list; returns the number of all. The caller
/// synchronises.
template <int Warps>
__device__ __forceinline__ int place_entries(const EmitShared<Warps>& s) {
    constexpr int lists = Warps > usual_emit_warps ? lists_together : 2;  // of a thread: many where there are many
    using Counters = Neighbours<std::uint32_t, lists / 2>;                // of two lists each
    using Rows = Neighbours<std::int32_t, lists>;
    Counters* const places = reinterpret_cast<Counters*>(s.places);
    const int groups = s.lists / lists;
    int placed = 0;
    for (int j0 = 0; j0 < groups; j0 += Warps * 32) {
        const int j = j0 + static_cast<int>(threadIdx.x);
        Counters counts{};
        int sum = 0, all;
        if (j < groups) {
#pragma unroll 4
            for (int w = 0; w < Warps; ++w) {
                const Counters of_warp = places[w * groups + j];
#pragma unroll
                for (int i = 0; i < lists / 2; ++i) counts.of[i] += of_warp.of[i];
            }
        }
#pragma unroll
        for (int i = 0; i < lists; ++i) sum += static_cast<int>(counts.of[i / 2] >> i % 2 * 16 & 0xffffu);
        int at = placed + block_exclusive_sum(sum, all);
        placed += all;
        if (j >= groups) continue;
        Counters place{};
        Rows next = reinterpret_cast<const Rows*>(s.next)[j], shift;
#pragma unroll
        for (int i = 0; i < lists; ++i) {
            const int count = static_cast<int>(counts.of[i / 2] >> i % 2 * 16 & 0xffffu);
            place.of[i / 2] |= static_cast<std::uint32_t>(at) << i % 2 * 16;
            shift.of[i] = next.of[i] - at;
            next.of[i] += count;
            at += count;
        }
        reinterpret_cast<Rows*>(s.next)[j] = next;
        reinterpret_cast<Rows*>(s.shift)[j] = shift;
#pragma unroll 4
        for (int w = 0; w < Warps; ++w) {
            const Counters of_warp = places[w * groups + j];
            places[w * groups + j] = place;
#pragma unroll
            for (int i = 0; i < lists / 2; ++i) place.of[i] += of_warp.of[i];
        }
    }
    return placed;
}

/// Stages the entries of a tile and writes their positions. query0: the first of the tile among those that the thread
/// block has; positions: of the first of these. fills: whether slots behind the last list become -1.
template <int Width, bool Ranged, int Warps>
__device__ __forceinline__ void place_tile(const EmitShared<Warps>& s, const std::uint16_t* places, int slots,
                                           int query0, int queries, std::int32_t* positions, bool fills,
                                           const PlacedEntry (&entry)[Width]) {
    using Pairs = TilePairs<Width>;
    constexpr int batch = 4;  // loads in flight together
    std::int32_t* position = positions + (query0 + Pairs::query(0)) * slots + Pairs::slot(0);
#pragma unroll
    for (int r0 = 0; r0 < Width; r0 += batch) {
        int place[batch], shift[batch];
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            const PlacedEntry one = {entry[r0 + i].is_one() ? entry[r0 + i].bits : 0};  // some counter, if none
            place[i] = places[one.list()] + static_cast<int>(one.low());
            shift[i] = s.shift[one.list()];
        }
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            const int r = r0 + i, query = query0 + Pairs::query(r), slot = Pairs::slot(r);
            const bool is_one = entry[r].is_one();
            if (is_one) s.staged[place[i]] = entry[r].with_low(query).bits;
            bool writes = query < queries && slot < slots;
            if (Ranged) writes = writes && (is_one || (fills && entry[r].bits == PlacedEntry::none));
            if (writes) position[slot - Pairs::slot(0)] = is_one ? place[i] + shift[i] : -1;
            if ((r + 1) % Pairs::per_query == 0) position += Pairs::queries * slots;
        }
    }
}

/// Entries and positions of a segment. Ranged: those of the lists of one of several ranges; positions count those of
/// all.
template <int Width, bool Ranged, int Warps>
__device__ void emit_segment(const ListParams& p, const ListPart& part, int segment, int range_number,
                             unsigned char* raw) {
    constexpr int tiles = emit_tiles(Width), threads = Warps * 32, most_queries = Warps * tiles * tile_queries;
    static_assert(most_queries <= 1 << PlacedEntry::list_bit && most_queries * Width < 1 << 16);  // a place: 16 bits
    const int begin = part.row_begin + segment * p.plan.segment_rows;
    const int end = min(begin + p.plan.segment_rows, part.row_end);
    if (begin >= end) return;
    const ListRange range(p, part, Ranged ? range_number : 0);
    if (Ranged && range_number > 0 && range.count == 0) return;
    const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32, slots = p.plan.slots;
    const EmitShared<Warps> s(p, raw);
    std::uint16_t* const places = s.places + warp * s.lists;
    const SelectionRows rows(slots);
    const int tile_words = tile_queries * rows.stride();
    std::uint32_t* const warp_rows = s.staged + warp * tiles * tile_words;

    s.clear_places();
    begin_lists(p, part, segment, range, s.next, s.lists);
    __syncthreads();
    for (int row0 = begin; row0 < end; row0 += most_queries) {
        const int queries = min(end - row0, most_queries);
        const int tiles_of_warp = tiles == 1 ? 1 : (queries + Warps * tile_queries - 1) / (Warps * tile_queries);
        const int query0 = warp * tiles_of_warp * tile_queries;  // of the warp
        PlacedEntry entry[tiles][Width];
#pragma unroll
        for (int tile = 0; tile < tiles; ++tile) {
            const int first = computed_here(tile * tile_queries), query = query0 + first;
            rows.load(selected_blocks(p, part, row0 + query), tile < tiles_of_warp ? queries - query : 0,
                      warp_rows + first * rows.stride());
        }
#pragma unroll
        for (int tile = 0; tile < tiles; ++tile) {
            // Groups of copies end in order: those behind this tile's may be on their way.
            if (tile == 0) ptx::cp_async_wait<tiles - 1>();
            if (tile == 1) ptx::cp_async_wait<(tiles > 1 ? tiles - 2 : 0)>();
            if (tile == 2) ptx::cp_async_wait<(tiles > 2 ? tiles - 3 : 0)>();
            if (tile == 3) ptx::cp_async_wait<(tiles > 3 ? tiles - 4 : 0)>();
            __syncwarp();
            const int first = computed_here(tile * tile_queries), query = query0 + first + lane;
            if (tile < tiles_of_warp) {
                rank_tile<Width, Ranged>(p, range, query < queries ? candidates_of(p, part, row0 + query) : 0,
                                         warp_rows + first * rows.stride(), places, entry[tile]);
            }
        }
        __syncthreads();
        if constexpr (Warps > usual_emit_warps) {  // no other thread block hides how long the next rows take
            rows.prefetch(selected_blocks(p, part, row0 + most_queries), min(end - row0 - most_queries, most_queries));
        }
        const int entries = place_entries(s);
        __syncthreads();
        std::int32_t* const positions =
            p.positions + (static_cast<std::int64_t>(part.local_head) * p.chunk.token_count + part.sequence.q_begin -
                           p.chunk.token_begin + row0) *
                              slots;
#pragma unroll
        for (int tile = 0; tile < tiles; ++tile) {
            if (tile < tiles_of_warp) {
                place_tile<Width, Ranged>(s, places, slots, query0 + computed_here(tile * tile_queries), queries,
                                          positions, !Ranged || range_number == 0, entry[tile]);
            }
        }
        __syncthreads();
#pragma unroll 4
        for (int i = t; i < entries; i += threads) {
            const PlacedEntry one = {s.staged[i]};
            p.entries[s.shift[one.list()] + i] = one.entry(row0);
        }
        s.clear_places();
        __syncthreads();
    }
}

/// Entries, positions, items. Ranged: there are several ranges, blockIdx.z says which.
template <int Width, bool Ranged, int Warps>
__global__ void __launch_bounds__(Warps * 32, Ranged ? 1 : emit_blocks(Width, Warps)) emit_kernel(const ListParams p) {
    extern __shared__ __align__(16) unsigned char emit_raw[];
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int share = static_cast<int>(blockIdx.x) % (p.plan.segments_max + 1);  // of a piece: its items, its segments
    const int piece = static_cast<int>(blockIdx.x) / (p.plan.segments_max + 1);
    const ListPart part(p, piece, static_cast<int>(blockIdx.y));
    const int range = Ranged ? static_cast<int>(blockIdx.z) : 0;
    if (share == 0) {
        if (range == 0) emit_items(p, part, piece, reinterpret_cast<std::int32_t*>(emit_raw));
    } else if (p.plan.slots > 0) {
        emit_segment<Width, Ranged, Warps>(p, part, share - 1, range, emit_raw);
    }
}

}  // namespace mobalab::kernels::cuda
