#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"

// Exact top-k of the rows of score tiles, one warp for 16 rows, nothing shared between warps.
//
// The accumulator fragment of a warpgroup product gives a quad of lanes two rows (lane / 4 and lane / 4 + 8 of the
// warp) and each lane a quarter of the columns. Every row has a bound: its worst kept score so far. What beats it is
// marked in a bit mask per lane, without branches, and appended to a buffer of the row in shared memory; when a buffer
// would overflow, buffers are merged into the kept lists and the bounds rise. How full a buffer was never matters to
// the result, because lists are ordered by (score, block) and blocks are unique.
//
// Keys: order-preserving bits of the score above the block number, so one unsigned comparison is the tie rule of
// kernels.h (the higher block wins). Tiles are scanned from the highest block down, therefore a later equal score never
// beats the bound and a strict comparison suffices. NaN scores beat nothing.
namespace mobalab::kernels::cuda {

using Key = unsigned long long;
inline constexpr Key empty_key = 0;
inline constexpr unsigned full_warp = 0xffffffffu;
inline constexpr int warp_rows = 16;

__device__ __forceinline__ Key make_key(float score, int block) {
    const std::uint32_t bits = __float_as_uint(score + 0.0f);  // -0 becomes +0: equal scores have equal bits
    const std::uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    return (static_cast<Key>(ordered) << 32) | static_cast<std::uint32_t>(block);
}
__device__ __forceinline__ int key_block(Key key) {
    return key == empty_key ? -1 : static_cast<int>(static_cast<std::uint32_t>(key));
}
/// The score of the upper half of a key; -inf of an empty one.
__device__ __forceinline__ float score_of_bits(std::uint32_t ordered) {
    if (ordered == 0) return -INFINITY;
    return __uint_as_float((ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered);
}
__device__ __forceinline__ float key_score(Key key) {
    return score_of_bits(static_cast<std::uint32_t>(key >> 32));
}
/// The largest float below x (x not NaN; -inf stays).
__device__ __forceinline__ float next_below(float x) {
    const auto bits = __float_as_int(x);
    if (x == 0.0f) return __int_as_float(static_cast<int>(0x80000001u));
    if (x == -INFINITY) return x;
    return __int_as_float(x > 0.0f ? bits - 1 : bits + 1);
}

/// What the buffers of rows lane / 4 and lane / 4 + 8 hold, the same in all four lanes of a quad.
struct Pending {
    int count0, count1;        // keys in the buffers
    int incoming0, incoming1;  // keys about to be appended

    /// The value of row `lane % 16`, to every lane.
    static __device__ __forceinline__ int of_row(int value0, int value1, int lane) {
        const int from = 4 * (lane % 8);
        const int a = __shfl_sync(full_warp, value0, from), b = __shfl_sync(full_warp, value1, from);
        return lane % warp_rows < 8 ? a : b;
    }
};

/// Lists of up to Size keys in registers: best for short lists. Lanes r and r + 16 each keep the best of half of what
/// row r was offered, so a merge takes half as long; only the bound and the end look at both.
template <int Size_>
struct RegisterLists {
    static constexpr int Size = Size_;
    static constexpr int capacity = 24;
    static constexpr int eager = 14;  // merge after a tile when a row holds that many keys
    static constexpr bool find_bounds = true;
    static constexpr int pitch = capacity + 1;           // odd: rows start in different banks
    static constexpr int warp_keys = warp_rows * pitch;  // shared memory of a warp, in keys
    static_assert((Size & (Size + 1)) == 0, "one less than a power of two");

    Key list[Size];  // best first

    // The places that `slots` leaves over in the lists of lanes 0..15 hold keys that nothing beats, so the last place
    // of both halves together is the worst kept.
    __device__ __forceinline__ void reset(Key*, int slots, int lane) {
#pragma unroll
        for (int i = 0; i < Size; ++i) list[i] = lane < warp_rows && i < Size - slots ? ~Key{0} : empty_key;
    }
    __device__ __forceinline__ static Key* buffer(Key* shared, int row) {
        return shared + row * pitch;
    }

    __device__ __forceinline__ void insert(Key key) {
        bool beats[Size];
#pragma unroll
        for (int j = 0; j < Size; ++j) beats[j] = key > list[j];
#pragma unroll
        for (int j = Size - 1; j > 0; --j) list[j] = beats[j - 1] ? list[j - 1] : beats[j] ? key : list[j];
        list[0] = beats[0] ? key : list[0];
    }

    /// The score bits of the Size-th best of both halves: of i from this half and Size - i from the other, for the best
    /// i.
    __device__ __forceinline__ std::uint32_t worst_kept() const {
        std::uint32_t mine[Size], other[Size];
#pragma unroll
        for (int j = 0; j < Size; ++j) {
            mine[j] = static_cast<std::uint32_t>(list[j] >> 32);
            other[j] = __shfl_xor_sync(full_warp, mine[j], 16);
        }
        std::uint32_t worst = max(mine[Size - 1], other[Size - 1]);
#pragma unroll
        for (int i = 1; i < Size; ++i) worst = max(worst, min(mine[i - 1], other[Size - 1 - i]));
        return worst;
    }

    /// Merges the buffers of all rows; the bounds are then up to date and the counts 0.
    __device__ __forceinline__ void flush(Key* shared, Pending& pending, int, float& bound0, float& bound1, int lane) {
        const int half = lane / warp_rows;
        const int count = Pending::of_row(pending.count0, pending.count1, lane);
        const int longest = (__reduce_max_sync(full_warp, count) + 1) / 2;
        const Key* buffer = shared + (lane % warp_rows) * pitch + half;
        Key next = half < count ? buffer[0] : empty_key;
#pragma unroll 1
        for (int i = 1; i <= longest; ++i) {
            const Key key = next;
            next = 2 * i + half < count ? buffer[2 * i] : empty_key;
            insert(key);
        }
        pending.count0 = pending.count1 = 0;
        const float worst = score_of_bits(worst_kept());
        bound0 = fmaxf(bound0, __shfl_sync(full_warp, worst, lane / 4));
        bound1 = fmaxf(bound1, __shfl_sync(full_warp, worst, lane / 4 + 8));
        __syncwarp();
    }

    /// After the last flush: moves the lists to shared memory, row r at final_list(shared, r).
    __device__ __forceinline__ void finish(Key* shared, int slots, int lane) {
        // The larger of a descending and an ascending sequence, element by element, is bitonic and holds the largest.
        Key best[Size + 1];
        best[0] = list[0];
        best[Size] = __shfl_xor_sync(full_warp, list[0], 16);
#pragma unroll
        for (int j = 1; j < Size; ++j) {
            const Key other = __shfl_xor_sync(full_warp, list[Size - j], 16);
            best[j] = list[j] > other ? list[j] : other;
        }
#pragma unroll
        for (int distance = (Size + 1) / 2; distance > 0; distance /= 2) {
#pragma unroll
            for (int j = 0; j <= Size; ++j) {
                if ((j & distance) != 0) continue;
                const Key a = best[j], b = best[j + distance];
                best[j] = a > b ? a : b;
                best[j + distance] = a > b ? b : a;
            }
        }
        if (lane < warp_rows) {
#pragma unroll
            for (int j = 0; j < Size; ++j) {
                if (j >= Size - slots) shared[lane * pitch + j - (Size - slots)] = best[j];
            }
        }
        __syncwarp();
    }
    __device__ __forceinline__ static const Key* final_list(const Key* shared, int row) {
        return shared + row * pitch;
    }
};

/// Lists of 32 or 64 keys, sorted, in shared memory; a row is merged by the whole warp, and only when its buffer is
/// full.
template <int Size_>
struct SharedLists {
    static constexpr int Size = Size_;
    static constexpr int capacity = 64;
    static constexpr bool find_bounds = false;
    static constexpr int warp_keys = warp_rows * (Size + capacity);
    static_assert(Size == 32 || Size == 64);

    __device__ __forceinline__ void reset(Key* shared, int, int lane) {
        for (int i = lane; i < warp_rows * Size; i += 32) shared[i] = empty_key;
        __syncwarp();
    }
    __device__ __forceinline__ static Key* buffer(Key* shared, int row) {
        return shared + warp_rows * Size + row * capacity;
    }

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

    /// Merges the rows that must be.
    __device__ __forceinline__ void flush(Key* shared, Pending& pending, int slots, float& bound0, float& bound1,
                                          int lane) {
        const int count = Pending::of_row(pending.count0, pending.count1, lane);
        const int incoming = Pending::of_row(pending.incoming0, pending.incoming1, lane);
        unsigned rows = __ballot_sync(full_warp, lane < warp_rows && count > 0 && count + incoming > capacity);
        while (rows != 0) {
            const int row = __ffs(static_cast<int>(rows)) - 1;
            rows &= rows - 1;
            Key* list = shared + row * Size;
            merge_row(list, buffer(shared, row), __shfl_sync(full_warp, count, row), lane);
            const float worst = key_score(list[slots - 1]);
            if (row == lane / 4) {
                bound0 = fmaxf(bound0, worst);
                pending.count0 = 0;
            }
            if (row == lane / 4 + 8) {
                bound1 = fmaxf(bound1, worst);
                pending.count1 = 0;
            }
        }
        __syncwarp();
    }

    __device__ __forceinline__ void finish(Key*, int, int) {}
    __device__ __forceinline__ static const Key* final_list(const Key* shared, int row) {
        return shared + row * Size;
    }
};

/// Finds a bound from scores alone, without keeping any: each lane holds the M largest of the maxima of its groups of 4
/// columns, for both of its rows. Over the quad these are 4 * M different scores of the row, and 4 * M - 1 of them are
/// not below the second smallest. So nothing below that one can be among the best 4 * M - 1. Masked columns are -inf,
/// so too few columns give -inf.
template <int M>
struct BoundFinder {
    float top[2][M];  // largest first

    __device__ __forceinline__ BoundFinder() {
#pragma unroll
        for (int i = 0; i < M; ++i) top[0][i] = top[1][i] = -INFINITY;
    }
    __device__ __forceinline__ void add(const float (&d)[64]) {
#pragma unroll
        for (int i = 0; i < 64; i += 8) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const int j = i + 2 * h;
                float x = fmaxf(fmaxf(d[j], d[j + 1]), fmaxf(d[j + 4], d[j + 5]));
#pragma unroll
                for (int m = 0; m < M; ++m) {
                    const float larger = fmaxf(top[h][m], x);
                    x = fminf(top[h][m], x);
                    top[h][m] = larger;
                }
            }
        }
    }
    /// For row lane / 4 + 8 * half. Scores must be above it, not only equal to it.
    __device__ __forceinline__ float bound(int half) const {
        float smallest = top[half][M - 1], second = top[half][M - 2];
#pragma unroll
        for (int step = 1; step <= 2; step *= 2) {
            const float other_smallest = __shfl_xor_sync(full_warp, smallest, step);
            const float other_second = __shfl_xor_sync(full_warp, second, step);
            second = fminf(fmaxf(smallest, other_smallest), fminf(second, other_second));
            smallest = fminf(smallest, other_smallest);
        }
        return next_below(second);
    }
};

/// The state of one warp over the tiles of its 16 rows.
template <typename Lists>
struct WarpTopK {
    static constexpr int window = 16;                   // accumulator values parked in shared memory at a time
    static constexpr int parking_floats = 32 * window;  // of a warp

    Lists lists;
    Key* shared;     // Lists::warp_keys keys of this warp
    float* parking;  // parking_floats of this warp: registers cannot be indexed, shared memory can
    int lane;
    int slots;
    float bound0, bound1;  // of rows lane / 4 and lane / 4 + 8
    Pending pending;

    /// The bounds to begin with; +inf for a row without any candidate, which then never collects anything.
    __device__ __forceinline__ void begin(float first_bound0, float first_bound1) {
        pending = {0, 0, 0, 0};
        lists.reset(shared, slots, lane);
        bound0 = first_bound0;
        bound1 = first_bound1;
        __syncwarp();
    }

    using Finder = BoundFinder < Lists::Size<16 ? (Lists::Size + 1) / 4 : 2>;

    /// One tile: d as ptx::Wgmma writes it, column c is block first_block + c. Masked columns are -inf. From the upper
    /// half of the columns to the lower: what comes after a merge is always a lower block. `bounded`: bounds come from
    /// a pass over all tiles, and are not worth improving.
    __device__ __forceinline__ void scan(const float (&d)[64], int first_block, bool bounded) {
        if constexpr (Lists::find_bounds) {
            if (!bounded && __any_sync(full_warp, bound0 == -INFINITY || bound1 == -INFINITY)) {
                Finder finder;
                finder.add(d);
                bound0 = fmaxf(bound0, finder.bound(0));
                bound1 = fmaxf(bound1, finder.bound(1));
            }
        }
        scan_half<32>(d, first_block);
        scan_half<0>(d, first_block);
        if constexpr (Lists::find_bounds) {
            if (!bounded && __any_sync(full_warp, max(pending.count0, pending.count1) >= Lists::eager)) {
                lists.flush(shared, pending, slots, bound0, bound1, lane);
            }
        }
    }

    __device__ __forceinline__ void end() {
        // An incoming number no buffer has room for: every row that has something must be merged.
        pending.incoming0 = pending.incoming1 = Lists::capacity;
        lists.flush(shared, pending, slots, bound0, bound1, lane);
        lists.finish(shared, slots, lane);
    }

private:
    static constexpr std::uint32_t row1_bits = 0xccccccccu;  // value i of a fragment is of row 1 when i % 4 >= 2

    /// Bit i: d[Begin + i] beats its row's bound. The sign of (bound - d) is the answer, shifted in from the left.
    template <int Begin>
    __device__ __forceinline__ std::uint32_t winners(const float (&d)[64]) const {
        std::uint32_t part[2] = {0, 0};
#pragma unroll
        for (int i = 15; i >= 0; --i) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const float difference = ((i & 2) == 0 ? bound0 : bound1) - d[Begin + 16 * h + i];
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
        if (lane % 4 >= 1) sum += other;
        other = __shfl_up_sync(full_warp, sum, 2, 4);
        if (lane % 4 >= 2) sum += other;
        const int total = __shfl_sync(full_warp, sum, 3, 4);
        pending.incoming0 = total & 0xffff;
        pending.incoming1 = total >> 16;
        if constexpr (Lists::capacity < 64) {
            if (__any_sync(full_warp, max(pending.incoming0, pending.incoming1) > Lists::capacity)) return false;
        }
        const bool full = pending.count0 + pending.incoming0 > Lists::capacity ||
                          pending.count1 + pending.incoming1 > Lists::capacity;
        if (__any_sync(full_warp, full)) {
            __syncwarp();
            lists.flush(shared, pending, slots, bound0, bound1, lane);
        }
        sum -= mine;
        const int row = lane / 4;
        std::uint32_t to0 = ptx::shared_address(Lists::buffer(shared, row) + pending.count0 + (sum & 0xffff));
        std::uint32_t to1 = ptx::shared_address(Lists::buffer(shared, row + 8) + pending.count1 + (sum >> 16));
        pending.count0 += pending.incoming0;
        pending.count1 += pending.incoming1;
        const int column = first_block + 2 * Begin + 2 * (lane % 4);
        append_window<Begin + window>(d, mask >> window, column + 2 * window, to0, to1);
        append_window<Begin>(d, mask & 0xffffu, column, to0, to1);
        __syncwarp();
        return true;
    }

    template <int Begin>
    __device__ __forceinline__ void append_window(const float (&d)[64], std::uint32_t mask, int column,
                                                  std::uint32_t& to0, std::uint32_t& to1) {
        if (!__any_sync(full_warp, mask != 0)) return;
        float* mine = parking + 4 * lane;  // lanes only touch their own part: no barrier
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
