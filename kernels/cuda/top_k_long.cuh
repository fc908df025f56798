#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/top_k_key.cuh"

// Exact top-k for lists of up to 32 or 64, one warp for 16 rows, nothing shared between warps.
//
// Lists are too long for registers, and merging them is what costs. So items of several tiles are surveyed first: each
// lane notes maxima of groups of its columns, and bisection finds a threshold that at least `slots` of a row's maxima,
// so at least as many of its scores, reach. In the second pass little more than the winners gets past it. What does is
// marked in a bit mask per lane, without branches, and appended to a buffer of the row in shared memory; a buffer that
// would overflow is merged into the row's sorted list, and the row's bound rises. How full a buffer was never matters
// to the result.
namespace mobalab::kernels::cuda {

/// Sorted lists in shared memory, a row merged by the whole warp.
template <int Size_>
struct SortedLists {
    static constexpr int Size = Size_;
    static_assert(Size == 32 || Size == 64);

    /// One step of a bitonic network over 64 keys, key i in lane i % 32, register i / 32: i is compared with i ^
    /// distance.
    template <int Distance>
    __device__ __forceinline__ static void exchange(Key (&k)[2], int lane, bool descending0, bool descending1) {
        if constexpr (Distance == 32) {
            const bool swap = (k[0] < k[1]) == descending0;
            const Key low = swap ? k[1] : k[0];
            k[1] = swap ? k[0] : k[1];
            k[0] = low;
        } else {
            const bool first = (lane & Distance) == 0;
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const Key other = __shfl_xor_sync(full_warp, k[r], Distance);
                const bool want_larger = (r == 0 ? descending0 : descending1) == first;
                k[r] = (k[r] > other) == want_larger ? k[r] : other;
            }
        }
    }
    template <int Distance>
    __device__ __forceinline__ static void merge(Key (&k)[2], int lane, bool descending0, bool descending1) {
        exchange<Distance>(k, lane, descending0, descending1);
        if constexpr (Distance > 1) merge<Distance / 2>(k, lane, descending0, descending1);
    }
    /// Sorts 64 keys, largest first.
    __device__ __forceinline__ static void sort(Key (&k)[2], int lane) {
        merge<1>(k, lane, (lane & 2) == 0, (lane & 2) == 0);
        merge<2>(k, lane, (lane & 4) == 0, (lane & 4) == 0);
        merge<4>(k, lane, (lane & 8) == 0, (lane & 8) == 0);
        merge<8>(k, lane, (lane & 16) == 0, (lane & 16) == 0);
        merge<16>(k, lane, true, false);
        merge<32>(k, lane, true, true);
    }

    /// The larger 64 (or 32) of a row's list and its buffer, sorted.
    __device__ __forceinline__ static void merge_row(Key* list, const Key* buffer, int count, int lane) {
        Key k[2] = {lane < count ? buffer[lane] : empty_key, lane + 32 < count ? buffer[lane + 32] : empty_key};
        sort(k, lane);
        // The larger of a descending and an ascending sequence, element by element, is bitonic and holds the largest.
        if constexpr (Size == 64) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const Key kept = list[63 - (lane + 32 * r)];
                k[r] = k[r] > kept ? k[r] : kept;
            }
            merge<32>(k, lane, true, true);
        } else {
            const Key kept = list[31 - lane];
            k[0] = k[0] > kept ? k[0] : kept;
            merge<16>(k, lane, true, true);
        }
        __syncwarp();
        list[lane] = k[0];
        if constexpr (Size == 64) list[lane + 32] = k[1];
        __syncwarp();
    }
};

/// The state of one warp over the tiles of its 16 rows.
template <int Size_>
class LongTopK {
public:
    static constexpr int Size = Size_;
    static constexpr int capacity = 48;                 // of a row's buffer, in keys
    static constexpr int window = 16;                   // accumulator values parked in shared memory at a time
    static constexpr int parking_floats = 32 * window;  // registers cannot be indexed, shared memory can
    static constexpr int lists_bytes = warp_rows * (Size + capacity) * static_cast<int>(sizeof(Key));
    static constexpr int shared_bytes = lists_bytes + parking_floats * static_cast<int>(sizeof(float));  // of a warp

    __device__ __forceinline__ LongTopK(unsigned char* shared, int slots, int lane)
        : lists_(reinterpret_cast<Key*>(shared)),
          parking_(reinterpret_cast<float*>(shared + lists_bytes)),
          slots_(slots),
          lane_(lane) {}

    /// The first of two passes, over `tiles` tiles. The maxima lie where the lists will be.
    __device__ __forceinline__ void begin_survey(int tiles) {
        per_tile_ = tiles * 8 <= maxima_slots ? 8 : tiles * 4 <= maxima_slots ? 4 : tiles * 2 <= maxima_slots ? 2 : 1;
        used_ = min(tiles * per_tile_, maxima_slots);
        for (int i = 0; i < 2 * used_; ++i) maxima()[32 * i] = -INFINITY;
    }
    __device__ __forceinline__ void survey(const float (&d)[64], int first_block) {
        float x[2][tile_groups];
#pragma unroll
        for (int i = 0; i < 2 * tile_groups; ++i) x[i % 2][i / 2] = group_max(d, i / 2, i % 2);
        if (per_tile_ < 8) {
            halve<8>(x);
            if (per_tile_ < 4) halve<4>(x);
            if (per_tile_ < 2) halve<2>(x);
        }
        int slot = first_block / 128 * per_tile_;
        while (slot >= used_) slot -= used_;
        float* to = maxima() + 64 * slot;
#pragma unroll
        for (int i = 0; i < tile_groups; ++i) {
            if (i >= per_tile_) break;
            to[64 * i] = fmaxf(to[64 * i], x[0][i]);
            to[64 * i + 32] = fmaxf(to[64 * i + 32], x[1][i]);
        }
    }

    /// A row without any candidate never collects anything.
    __device__ __forceinline__ void begin(bool any0, bool any1, bool surveyed) {
        bound0_ = bound1_ = -INFINITY;
        if (surveyed) bisect();
        if (!any0) bound0_ = INFINITY;
        if (!any1) bound1_ = INFINITY;
        __syncwarp();  // the maxima are no longer needed
        for (int i = lane_; i < warp_rows * Size; i += 32) lists_[i] = empty_key;
        count0_ = count1_ = 0;
        __syncwarp();
    }

    /// One tile: d as ptx::Wgmma writes it, column c is block first_block + c. Masked columns are -inf. From the upper
    /// half of the columns to the lower: what comes after a merge is always a lower block, so it must exceed the bound.
    __device__ __forceinline__ void scan(const float (&d)[64], int first_block, bool) {
        scan_half<32>(d, first_block);
        scan_half<0>(d, first_block);
    }

    /// Afterwards final_key(r, 0) is the best of row r.
    __device__ __forceinline__ void end() {
        flush(capacity, capacity);
    }
    __device__ __forceinline__ Key final_key(int row, int slot) const {
        return lists_[row * Size + slot];
    }

private:
    static constexpr std::uint32_t row1_bits = 0xccccccccu;  // value i of a fragment is of row 1 when i % 4 >= 2
    static constexpr int maxima_slots = lists_bytes / (2 * 32 * 4);  // of a row and lane
    static constexpr int bisections = 10;

    Key* lists_;
    float* parking_;
    int slots_, lane_;
    int per_tile_ = 0, used_ = 0;  // of the survey: maxima of a row and lane, per tile and in all
    float bound0_, bound1_;        // of rows lane / 4 and lane / 4 + 8
    int count0_, count1_;          // keys in their buffers, the same in all four lanes of a quad

    __device__ __forceinline__ Key* buffer(int row) const {
        return lists_ + warp_rows * Size + row * capacity;
    }

    /// Maximum `slot` of row lane / 4 + 8 * half is at 64 * slot + 32 * half. A lane touches its own only.
    __device__ __forceinline__ float* maxima() const {
        return reinterpret_cast<float*>(lists_) + lane_;
    }

    template <int Count>
    static __device__ __forceinline__ void halve(float (&x)[2][tile_groups]) {
#pragma unroll
        for (int i = 0; i < Count / 2; ++i) {
            x[0][i] = fmaxf(x[0][2 * i], x[0][2 * i + 1]);
            x[1][i] = fmaxf(x[1][2 * i], x[1][2 * i + 1]);
        }
    }

    /// How many maxima of each row reach its value.
    __device__ __forceinline__ void count_reaching(const float (&value)[2], int (&count)[2]) const {
        count[0] = count[1] = 0;
#pragma unroll 4
        for (int i = 0; i < used_; ++i) {
            count[0] += maxima()[64 * i] >= value[0] ? 1 : 0;
            count[1] += maxima()[64 * i + 32] >= value[1] ? 1 : 0;
        }
#pragma unroll
        for (int step = 1; step <= 2; step *= 2) {
            count[0] += __shfl_xor_sync(full_warp, count[0], step);
            count[1] += __shfl_xor_sync(full_warp, count[1], step);
        }
    }

    /// Bounds that scores must exceed: values that at least `slots` maxima reach, but hardly more.
    __device__ __forceinline__ void bisect() {
        float low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
#pragma unroll 4
        for (int i = 0; i < used_; ++i) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const float x = maxima()[64 * i + 32 * h];
                high[h] = fmaxf(high[h], x);
                low[h] = x == -INFINITY ? low[h] : fminf(low[h], x);
            }
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
        if (enough[0]) bound0_ = next_below(low[0]);
        if (enough[1]) bound1_ = next_below(low[1]);
    }

    /// Merges the rows whose buffer has no room for so many keys.
    __device__ __forceinline__ void flush(int incoming0, int incoming1) {
        __syncwarp();
        const int count = of_row(count0_, count1_, lane_);
        const int incoming = of_row(incoming0, incoming1, lane_);
        unsigned rows = __ballot_sync(full_warp, lane_ < warp_rows && count > 0 && count + incoming > capacity);
        while (rows != 0) {
            const int row = __ffs(static_cast<int>(rows)) - 1;
            rows &= rows - 1;
            Key* list = lists_ + row * Size;
            SortedLists<Size>::merge_row(list, buffer(row), __shfl_sync(full_warp, count, row), lane_);
            const float worst = key_score(list[slots_ - 1]);
            if (row == lane_ / 4) {
                bound0_ = fmaxf(bound0_, worst);
                count0_ = 0;
            }
            if (row == lane_ / 4 + 8) {
                bound1_ = fmaxf(bound1_, worst);
                count1_ = 0;
            }
        }
        __syncwarp();
    }

    /// Bit i: d[Begin + i] beats its row's bound. The sign of (bound - d) is the answer, shifted in from the left.
    template <int Begin>
    __device__ __forceinline__ std::uint32_t winners(const float (&d)[64]) const {
        std::uint32_t part[2] = {0, 0};
#pragma unroll
        for (int i = 15; i >= 0; --i) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const float difference = ((i & 2) == 0 ? bound0_ : bound1_) - d[Begin + 16 * h + i];
                part[h] = __funnelshift_l(__float_as_uint(difference), part[h], 1);
            }
        }
        return part[0] | (part[1] << 16);
    }

    template <int Begin>
    __device__ __forceinline__ void scan_half(const float (&d)[64], int first_block) {
        const std::uint32_t mask = winners<Begin>(d);
        if (!__any_sync(full_warp, mask != 0)) return;
        if (append<Begin>(d, mask, first_block)) return;
            // More at once than an empty buffer holds: in pieces of 8 values, that is of 16 columns.
#pragma unroll 1
        for (int shift = 24; shift >= 0; shift -= 8) {
            const std::uint32_t fresh = winners<Begin>(d);  // merges raise the bounds
            append<Begin>(d, fresh & (0xffu << shift), first_block);
        }
    }

    /// Appends the marked values; false, with nothing done, when a row has more of them than its empty buffer holds.
    template <int Begin>
    __device__ __forceinline__ bool append(const float (&d)[64], std::uint32_t mask, int first_block) {
        // Where the lane's keys go: an exclusive sum over its quad, both rows in one integer.
        const int mine = __popc(mask & ~row1_bits) | (__popc(mask & row1_bits) << 16);
        int sum = mine;
        int other = __shfl_up_sync(full_warp, sum, 1, 4);
        if (lane_ % 4 >= 1) sum += other;
        other = __shfl_up_sync(full_warp, sum, 2, 4);
        if (lane_ % 4 >= 2) sum += other;
        const int total = __shfl_sync(full_warp, sum, 3, 4);
        const int incoming0 = total & 0xffff, incoming1 = total >> 16;
        if (__any_sync(full_warp, max(incoming0, incoming1) > capacity)) return false;
        if (__any_sync(full_warp, count0_ + incoming0 > capacity || count1_ + incoming1 > capacity)) {
            flush(incoming0, incoming1);
        }
        sum -= mine;
        const int row = lane_ / 4;
        std::uint32_t to0 = ptx::shared_address(buffer(row) + count0_ + (sum & 0xffff));
        std::uint32_t to1 = ptx::shared_address(buffer(row + 8) + count1_ + (sum >> 16));
        count0_ += incoming0;
        count1_ += incoming1;
        const int column = first_block + 2 * Begin + 2 * (lane_ % 4);
        append_window<Begin + window>(d, mask >> window, column + 2 * window, to0, to1);
        append_window<Begin>(d, mask & 0xffffu, column, to0, to1);
        __syncwarp();
        return true;
    }

    template <int Begin>
    __device__ __forceinline__ void append_window(const float (&d)[64], std::uint32_t mask, int column,
                                                  std::uint32_t& to0, std::uint32_t& to1) {
        if (!__any_sync(full_warp, mask != 0)) return;
        float* mine = parking_ + 4 * lane_;  // lanes only touch their own part: no barrier
        if (mask != 0) {
#pragma unroll
            for (int i = 0; i < window; i += 4) {
                *reinterpret_cast<float4*>(mine + 32 * i) =
                    make_float4(d[Begin + i], d[Begin + i + 1], d[Begin + i + 2], d[Begin + i + 3]);
            }
        }
        while (mask != 0) {
            const int i = __ffs(static_cast<int>(mask)) - 1;
            mask &= mask - 1;
            const Key key = make_key(mine[32 * (i & ~3) + (i & 3)], column + 2 * (i & ~3) + (i & 1));
            const bool second = (i & 2) != 0;
            const std::uint32_t to = second ? to1 : to0;
            asm volatile("st.shared.b64 [%0], %1;" ::"r"(to), "l"(key) : "memory");
            to0 += second ? 0 : sizeof(Key);
            to1 += second ? sizeof(Key) : 0;
        }
    }
};

}  // namespace mobalab::kernels::cuda
