#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/routing/top_k_key.cuh"

// Exact top-k for lists of up to 63, one warp for 16 rows, nothing shared between warps.
//
// Lists are too long for registers, and sorting them is what costs. So items of several tiles are surveyed first: of
// every place in a tile the maximum over the tiles, 128 scores of each row. Bisection finds a threshold that at least
// `slots` of them reach, so at least as many scores. In the second pass little more than the winners gets past it (1.4
// times as many, for 63 of random scores), in whatever order they come. What does is marked in a bit mask per lane,
// without branches, and appended to a buffer of the row in shared memory. At the end buffers are sorted, two rows at a
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
    static constexpr int window = 16;  // accumulator values of a lane that are looked at together: 32 columns
    static constexpr int most_slots = 63;
    static constexpr int capacity = 112;  // of a row's buffer, in keys
    static_assert(most_slots + 2 * window <= capacity, "room for a window after sorting");
    static constexpr int parking_floats = 32 * window;  // registers cannot be indexed, shared memory can
    static constexpr int buffers_bytes = warp_rows * capacity * static_cast<int>(sizeof(Key));
    static constexpr int shared_bytes = buffers_bytes + parking_floats * static_cast<int>(sizeof(float));  // of a warp

    __device__ __forceinline__ LongTopK(unsigned char* shared, int slots, int lane)
        : buffers_(reinterpret_cast<Key*>(shared)), slots_(slots), lane_(lane) {}

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
        floor0_ = floor1_ = lowest_floor;
        if (surveyed) bisect();
        if (!any0) floor0_ = INFINITY;
        if (!any1) floor1_ = INFINITY;
        count0_ = count1_ = 0;
    }

    /// One tile: d as ptx::Wgmma writes it, column c is block first_block + c. Masked columns are -inf. From the
    /// highest columns down: what comes after a sort is always a lower block, so it must beat what was kept.
    __device__ __forceinline__ void take(const float (&d)[64], int first_block) {
        collect<48>(d, first_block);
        collect<32>(d, first_block);
        collect<16>(d, first_block);
        collect<0>(d, first_block);
    }

    /// After the last tile.
    __device__ __forceinline__ void end() {
        sort_rows(0xffffu);
    }
    /// After end(), best first; -1 and -inf where a row has fewer.
    __device__ __forceinline__ int final_block(int row, int slot) const {
        return key_block(buffer(row)[slot]);
    }
    __device__ __forceinline__ float final_score(int row, int slot) const {
        return key_score(buffer(row)[slot]);
    }

private:
    static constexpr std::uint32_t row1_bits = 0xccccu;  // value i of a fragment is of row 1 when i % 4 >= 2
    static constexpr int bisections = 10;

    Key* buffers_;  // a row's each, then the parked scores
    int slots_, lane_;
    float maxima_[64];       // like an accumulator: the survey
    float floor0_, floor1_;  // of rows lane / 4 and lane / 4 + 8
    int count0_, count1_;    // keys in their buffers, the same in all four lanes of a quad

    __device__ __forceinline__ Key* buffer(int row) const {
        return buffers_ + row * capacity;
    }

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
        if (enough[0]) floor0_ = fmaxf(floor0_, low[0]);
        if (enough[1]) floor1_ = fmaxf(floor1_, low[1]);
    }

    /// Sorts the buffers of these rows (in pairs) and keeps their best; the floors rise above what was kept worst.
    __device__ __forceinline__ void sort_rows(unsigned rows) {
        __syncwarp();
        const int count = of_row(count0_, count1_, lane_);
#pragma unroll 1
        for (int pair = 0; pair < warp_rows / 2; ++pair) {
            if ((rows >> (2 * pair) & 3u) == 0) continue;
            const int filled[2] = {__shfl_sync(full_warp, count, 2 * pair),
                                   __shfl_sync(full_warp, count, 2 * pair + 1)};
            const auto load = [&](int row, int at) {
                return at < filled[row] ? buffer(2 * pair + row)[at] : empty_key;
            };
            SortedRows sorted;
#pragma unroll
            for (int i = 0; i < 4; ++i) sorted.best[i / 2][i % 2] = load(i / 2, 32 * (i % 2) + lane_);
            sorted.sort(lane_);
#pragma unroll 1
            for (int at = 64; at < max(filled[0], filled[1]); at += 32) {
                Key more[2] = {load(0, at + lane_), load(1, at + lane_)};
                sorted.merge(more, lane_);
            }
            __syncwarp();
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = 2 * lane_ + i % 2;
                if (at < slots_) buffer(2 * pair + i / 2)[at] = sorted.best[i / 2][i % 2];
            }
            __syncwarp();
            const int row = lane_ / 4;
            if (row / 2 == pair) {
                count0_ = min(count0_, slots_);
                floor0_ = fmaxf(floor0_, next_above(key_score(buffer(row)[slots_ - 1])));
            }
            if (row / 2 + 4 == pair) {
                count1_ = min(count1_, slots_);
                floor1_ = fmaxf(floor1_, next_above(key_score(buffer(row + 8)[slots_ - 1])));
            }
        }
        __syncwarp();
    }

    /// Bit i: d[Begin + i] is not below its row's floor: what the sign of (d - floor) says, shifted in from the left.
    template <int Begin>
    __device__ __forceinline__ std::uint32_t winners(const float (&d)[64]) const {
        std::uint32_t part[2] = {0, 0};
#pragma unroll
        for (int i = 7; i >= 0; --i) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const float difference = d[Begin + 8 * h + i] - ((i & 2) == 0 ? floor0_ : floor1_);
                part[h] = __funnelshift_l(__float_as_uint(difference), part[h], 1);
            }
        }
        return ~(part[0] | (part[1] << 8)) & 0xffffu;
    }

    /// Appends the winners of one window.
    template <int Begin>
    __device__ __forceinline__ void collect(const float (&d)[64], int first_block) {
        std::uint32_t mask = winners<Begin>(d);
        if (!__any_sync(full_warp, mask != 0)) return;
        // Where the lane's keys go: an exclusive sum over its quad, both rows in one integer.
        const int mine = __popc(mask & ~row1_bits) | (__popc(mask & row1_bits) << 16);
        int sum = mine;
        int other = __shfl_up_sync(full_warp, sum, 1, 4);
        if (lane_ % 4 >= 1) sum += other;
        other = __shfl_up_sync(full_warp, sum, 2, 4);
        if (lane_ % 4 >= 2) sum += other;
        const int total = __shfl_sync(full_warp, sum, 3, 4);
        const int incoming0 = total & 0xffff, incoming1 = total >> 16;
        const int after = of_row(count0_ + incoming0, count1_ + incoming1, lane_);
        const unsigned full = __ballot_sync(full_warp, lane_ < warp_rows && after > capacity);
        if (full != 0) sort_rows(full);
        sum -= mine;
        const int row = lane_ / 4;
        std::uint32_t to0 = ptx::shared_address(buffer(row) + count0_ + (sum & 0xffff));
        std::uint32_t to1 = ptx::shared_address(buffer(row + 8) + count1_ + (sum >> 16));
        count0_ += incoming0;
        count1_ += incoming1;
        const int column = first_block + 2 * Begin + 2 * (lane_ % 4);
        float* parked =
            reinterpret_cast<float*>(buffer(warp_rows)) + 4 * lane_;  // lanes only touch their own part: no barrier
#pragma unroll
        for (int i = 0; i < window; i += 4) {
            *reinterpret_cast<float4*>(parked + 32 * i) =
                make_float4(d[Begin + i], d[Begin + i + 1], d[Begin + i + 2], d[Begin + i + 3]);
        }
        while (mask != 0) {
            const int i = __ffs(static_cast<int>(mask)) - 1;
            mask &= mask - 1;
            const bool second = (i & 2) != 0;
            store_key(second ? to1 : to0, make_key(parked[32 * (i & ~3) + (i & 3)], column + 2 * (i & ~3) + (i & 1)));
            to0 += second ? 0 : sizeof(Key);
            to1 += second ? sizeof(Key) : 0;
        }
    }
};

}  // namespace mobalab::kernels::cuda
