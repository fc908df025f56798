#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/routing/row_buffers.cuh"
#include "kernels/cuda/routing/top_k_key.cuh"

// Exact top-k for lists of up to 63, one warp for 16 rows, nothing shared between warps.
//
// Lists are too long for registers, and sorting them is what costs. So items of several tiles are surveyed first: of
// every place in a tile the maximum over the tiles, 128 scores of each row. Bisection finds a threshold that at least
// `slots` of them reach, so at least as many scores. In the second pass little more than the winners gets past it (1.4
// times as many, for 63 of random scores), in whatever order they come. What does is appended to the row's buffer, half
// a tile at a time, the second half while the next product is under way. At the end buffers are sorted, two rows at a
// time; a buffer that would overflow before is sorted then, keeps its best, and the row's floor rises. How full a
// buffer was never matters to the result.
namespace mobalab::kernels::cuda {

/// The best 64 keys of each of two rows, sorted: key i in lane i / 2, register i % 2. Two rows for more instructions in
/// flight.
struct SortedRows {
    Key best[2][2];

    /// Sorts what is in `best`, largest first, by a bitonic network.
    __device__ __forceinline__ void sort(int lane) {
        stage<2, 1>(lane);
        stage<4, 2>(lane);
        stage<8, 4>(lane);
        stage<16, 8>(lane);
        stage<32, 16>(lane);
        stage<64, 32>(lane);
    }

    /// Takes 32 more keys of each row, one a lane.
    __device__ __forceinline__ void merge(Key (&more)[2], int lane) {
        stage_more<2, 1>(more, lane);
        stage_more<4, 2>(more, lane);
        stage_more<8, 4>(more, lane);
        stage_more<16, 8>(more, lane);
        stage_more<32, 16>(more, lane);
        // The larger of a descending and an ascending sequence, element by element, is bitonic and holds the largest.
#pragma unroll
        for (int r = 0; r < 2; ++r) {
#pragma unroll
            for (int row = 0; row < 2; ++row) {
                const Key other = __shfl_sync(full_warp, more[row], 63 - 2 * lane - r);
                if (lane >= 16 && other > best[row][r]) best[row][r] = other;
            }
        }
        stage<64, 32>(lane);
    }

private:
    /// Keeps the larger or the smaller of a key and the one of lane ^ Distance.
    template <int Distance>
    static __device__ __forceinline__ void exchange(Key& key, bool want_larger) {
        const Key other = __shfl_xor_sync(full_warp, key, Distance);
        key = (key > other) == want_larger ? key : other;
    }

    /// Merges sequences of Length / 2 to sequences of Length, descending where (i & Length) == 0.
    template <int Length, int Distance>
    __device__ __forceinline__ void stage(int lane) {
        const bool descending = (2 * lane & Length) == 0;
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            if constexpr (Distance > 1) {
                const bool want_larger = ((2 * lane & Distance) == 0) == descending;
#pragma unroll
                for (int r = 0; r < 2; ++r) exchange<Distance / 2>(best[row][r], want_larger);
            } else {
                const bool swap = (best[row][0] < best[row][1]) == descending;
                const Key front = swap ? best[row][1] : best[row][0];
                best[row][1] = swap ? best[row][0] : best[row][1];
                best[row][0] = front;
            }
        }
        if constexpr (Distance > 1) stage<Length, Distance / 2>(lane);
    }
    template <int Length, int Distance>
    __device__ __forceinline__ void stage_more(Key (&more)[2], int lane) {
        const bool want_larger = ((lane & Distance) == 0) == ((lane & Length) == 0);
#pragma unroll
        for (int row = 0; row < 2; ++row) exchange<Distance>(more[row], want_larger);
        if constexpr (Distance > 1) stage_more<Length, Distance / 2>(more, lane);
    }
};

/// The state of one warp over the tiles of its 16 rows.
class LongTopK {
public:
    static constexpr int tile_blocks = 128;
    static constexpr bool surveys = true, stores_scores = false;
    static constexpr int most_slots = 63;

private:
    static constexpr int half_blocks = tile_blocks / 2, capacity = 127;
    static_assert(most_slots + half_blocks <= capacity, "room for half a tile after sorting");
    using Rows = RowBuffers<capacity>;
    static_assert(2 * Rows::values == half_blocks);

public:
    static constexpr int shared_bytes = Rows::shared_bytes;  // of a warp

    __device__ __forceinline__ LongTopK(unsigned char* shared, int slots, int lane)
        : rows_(shared, lane), slots_(slots), lane_(lane) {}

    /// The first of two passes.
    __device__ __forceinline__ void begin_survey() {
#pragma unroll
        for (int i = 0; i < 64; ++i) maxima_[i] = -INFINITY;
    }
    __device__ __forceinline__ void survey(const float (&d)[64]) {
#pragma unroll
        for (int i = 0; i < 64; ++i) maxima_[i] = fmaxf(maxima_[i], d[i]);
    }

    /// A row without any candidate never collects anything.
    __device__ __forceinline__ void begin(bool any0, bool any1, bool surveyed) {
        floor_[0] = floor_[1] = lowest_floor;
        if (surveyed) bisect();
        if (!any0) floor_[0] = INFINITY;
        if (!any1) floor_[1] = INFINITY;
        rows_.clear();
    }

    /// One tile: d as ptx::Wgmma writes it, column c is block first_block + c. Masked columns are -inf. From the
    /// highest columns down: what comes after a sort is always a lower block, so it must beat what was kept. append()
    /// with the same first block completes it.
    __device__ __forceinline__ void take(const float (&d)[64], int first_block) {
        mark<Rows::values>(d);
        rows_.append(first_block + half_blocks);
        mark<0>(d);
    }
    /// A tile in which no row of the warp has candidates.
    __device__ __forceinline__ void take_nothing() {
        rows_.mark(0);
    }
    __device__ __forceinline__ void append(int first_block) {
        rows_.append(first_block);
    }

    /// After the last tile.
    __device__ __forceinline__ void end() {
        sort_rows(0xffffu);
    }
    /// After end(), best first; -1 and -inf where a row has fewer.
    __device__ __forceinline__ int final_block(int row, int slot) const {
        const int block = load_block(rows_.blocks(row), slot);
        return block == Rows::no_block ? -1 : block;
    }
    __device__ __forceinline__ float final_score(int row, int slot) const {
        return load_score(rows_.scores(row), slot);
    }

private:
    static constexpr int bisections = 10;

    Rows rows_;
    int slots_, lane_;
    float maxima_[64];  // like an accumulator: the survey
    float floor_[2];    // of rows lane / 4 and lane / 4 + 8

    static __device__ __forceinline__ constexpr int half_of(int i) {
        return i / 2 % 2;
    }  // the row of accumulator value i

    /// How many maxima of each row reach its value.
    __device__ __forceinline__ void count_reaching(const float (&value)[2], int (&count)[2]) const {
        count[0] = count[1] = 0;
#pragma unroll
        for (int i = 0; i < 64; ++i) count[half_of(i)] += maxima_[i] >= value[half_of(i)] ? 1 : 0;
#pragma unroll
        for (int step = 1; step <= 2; step *= 2) {
            count[0] += __shfl_xor_sync(full_warp, count[0], step);
            count[1] += __shfl_xor_sync(full_warp, count[1], step);
        }
    }

    /// Floors that scores must reach: values that at least `slots` maxima reach, but hardly more.
    __device__ __forceinline__ void bisect() {
        float low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
#pragma unroll
        for (int i = 0; i < 64; ++i) {
            const float x = maxima_[i];
            high[half_of(i)] = fmaxf(high[half_of(i)], x);
            low[half_of(i)] = x == -INFINITY ? low[half_of(i)] : fminf(low[half_of(i)], x);
        }
#pragma unroll
        for (int step = 1; step <= 2; step *= 2) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                high[h] = fmaxf(high[h], __shfl_xor_sync(full_warp, high[h], step));
                low[h] = fminf(low[h], __shfl_xor_sync(full_warp, low[h], step));
            }
        }
        float middle[2] = {low[0], low[1]};
        bool enough[2];
#pragma unroll 1
        for (int i = 0; i <= bisections; ++i) {
            int count[2];
            count_reaching(middle, count);
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const bool reached = count[h] >= slots_;
                if (i == 0) {
                    enough[h] = reached;
                } else {
                    low[h] = reached ? middle[h] : low[h];
                    high[h] = reached ? high[h] : middle[h];
                }
                middle[h] = 0.5f * low[h] + 0.5f * high[h];
            }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            if (enough[h]) floor_[h] = fmaxf(floor_[h], low[h]);
        }
    }

    /// Marks half a tile and makes room for it.
    template <int Begin>
    __device__ __forceinline__ void mark(const float (&d)[64]) {
        rows_.mark(Rows::template reaching<Begin>(d, floor_));
        rows_.template park<Begin>(d);
        if (rows_.surely_fit()) return;
        if (const unsigned full = rows_.full_rows(); full != 0) sort_rows(full);
    }

    /// Sorts the buffers of these rows (in pairs) and keeps their best; the floors rise above what was kept worst.
    __device__ __forceinline__ void sort_rows(unsigned rows) {
        __syncwarp();
        const std::uint32_t filled = rows_.filled();
        const int count = of_row(static_cast<int>(filled & 0xffff), static_cast<int>(filled >> 16), lane_) / 4;
#pragma unroll 1
        for (int pair = 0; pair < warp_rows / 2; ++pair) {
            if ((rows >> (2 * pair) & 3u) == 0) continue;
            const int of_pair[2] = {__shfl_sync(full_warp, count, 2 * pair),
                                    __shfl_sync(full_warp, count, 2 * pair + 1)};
            const std::uint32_t scores[2] = {rows_.scores(2 * pair), rows_.scores(2 * pair + 1)};
            const std::uint32_t blocks[2] = {rows_.blocks(2 * pair), rows_.blocks(2 * pair + 1)};
            const auto load = [&](int row, int at) {
                return at < of_pair[row] ? make_key(load_score(scores[row], at), load_block(blocks[row], at))
                                         : empty_key;
            };
            SortedRows sorted;
#pragma unroll
            for (int i = 0; i < 4; ++i) sorted.best[i / 2][i % 2] = load(i / 2, 32 * (i % 2) + lane_);
            sorted.sort(lane_);
#pragma unroll 1
            for (int at = 64; at < max(of_pair[0], of_pair[1]); at += 32) {
                Key more[2] = {load(0, at + lane_), load(1, at + lane_)};
                sorted.merge(more, lane_);
            }
            __syncwarp();
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = 2 * lane_ + i % 2;
                const Key key = sorted.best[i / 2][i % 2];
                if (at < slots_) {
                    store_entry(scores[i / 2], blocks[i / 2], at, key_score(key),
                                static_cast<std::uint16_t>(key_block(key)));
                }
            }
        }
        __syncwarp();
        int kept[2];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int row = lane_ / 4 + 8 * h;
            const bool sorted = (rows >> (row & ~1) & 3u) != 0;
            if (sorted) floor_[h] = fmaxf(floor_[h], next_above(load_score(rows_.scores(row), slots_ - 1)));
            kept[h] = sorted ? slots_ : capacity;
        }
        rows_.keep(kept[0], kept[1]);
        __syncwarp();
    }
};

}  // namespace mobalab::kernels::cuda
