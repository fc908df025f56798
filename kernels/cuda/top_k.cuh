#pragma once

#include <cstdint>

// Exact top-k of the rows of score tiles, one warp for 16 rows, nothing shared between warps.
//
// The accumulator fragment of a warpgroup product gives a quad of lanes two rows (row() and row() + 8 of the warp) and
// each lane a quarter of the columns. Every row has a bound: its worst kept score so far. Scores that beat it are
// appended to a buffer of the row in shared memory; when a buffer could overflow, buffers are merged into the kept
// lists and the bounds rise. How full a buffer was never matters to the result, because lists are ordered by (score,
// column) and columns are unique.
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
__device__ __forceinline__ float key_score(Key key) {
    if (key == empty_key) return -INFINITY;
    const auto ordered = static_cast<std::uint32_t>(key >> 32);
    return __uint_as_float((ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered);
}
/// The largest float below x (x not NaN; -inf stays).
__device__ __forceinline__ float next_below(float x) {
    const auto bits = __float_as_int(x);
    if (x == 0.0f) return __int_as_float(static_cast<int>(0x80000001u));
    if (x == -INFINITY) return x;
    return __int_as_float(x > 0.0f ? bits - 1 : bits + 1);
}

/// Lists of up to Size keys in the registers of lanes 0..15, one row each: best for short lists.
template <int Size_>
struct RegisterLists {
    static constexpr int Size = Size_;
    static constexpr int group_columns = 32;  // columns scanned between two looks at the buffers
    static constexpr int flush_above = 8;
    static constexpr int pitch = flush_above + group_columns + 1;  // odd: rows start in different banks
    static constexpr int warp_keys = warp_rows * pitch;            // shared memory of a warp, in keys

    Key list[Size];

    // The places of a list that `slots` leaves over hold keys that nothing beats, so the last place is the worst kept.
    __device__ __forceinline__ void reset(Key*, int slots) {
#pragma unroll
        for (int i = 0; i < Size; ++i) list[i] = i < Size - slots ? ~Key{0} : empty_key;
    }
    __device__ __forceinline__ static Key* buffer(Key* shared, int row) {
        return shared + row * pitch;
    }

    /// Merges all buffers of the warp; afterwards they are empty and the bounds are up to date.
    __device__ __forceinline__ void flush(Key* shared, int* counts, int, int, float& bound0, float& bound1, int lane) {
        __syncwarp();
        const int count = lane < warp_rows ? counts[lane] : 0;
        const int longest = __reduce_max_sync(full_warp, count);
        for (int i = 0; i < longest; ++i) {
            Key key = i < count ? shared[lane * pitch + i] : empty_key;
#pragma unroll
            for (int j = 0; j < Size; ++j) {
                const bool better = key > list[j];
                const Key worse = better ? list[j] : key;
                list[j] = better ? key : list[j];
                key = worse;
            }
        }
        if (lane < warp_rows) counts[lane] = 0;
        const float worst = key_score(list[Size - 1]);
        bound0 = fmaxf(bound0, __shfl_sync(full_warp, worst, lane / 4));
        bound1 = fmaxf(bound1, __shfl_sync(full_warp, worst, lane / 4 + 8));
        __syncwarp();
    }

    /// After the last flush: moves the lists to shared memory, row r at final_list(shared, r).
    __device__ __forceinline__ void finish(Key* shared, int slots, int lane) {
        if (lane < warp_rows) {
#pragma unroll
            for (int j = 0; j < Size; ++j) {
                if (j >= Size - slots) shared[lane * pitch + j - (Size - slots)] = list[j];
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
    static constexpr int group_columns = 16;
    static constexpr int buffer_keys = 64;
    static constexpr int flush_above = buffer_keys - group_columns;
    static constexpr int warp_keys = warp_rows * (Size + buffer_keys);
    static_assert(Size == 32 || Size == 64);

    __device__ __forceinline__ void reset(Key* shared, int) {
        const int lane = static_cast<int>(threadIdx.x) % 32;
        for (int i = lane; i < warp_rows * Size; i += 32) shared[i] = empty_key;
        __syncwarp();
    }
    __device__ __forceinline__ static Key* buffer(Key* shared, int row) {
        return shared + warp_rows * Size + row * buffer_keys;
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

    /// Merges the rows with more than `above` buffered keys.
    __device__ __forceinline__ void flush(Key* shared, int* counts, int above, int slots, float& bound0, float& bound1,
                                          int lane) {
        __syncwarp();
        const int count = lane < warp_rows ? counts[lane] : 0;
        unsigned rows = __ballot_sync(full_warp, count > above);
        while (rows != 0) {
            const int row = __ffs(static_cast<int>(rows)) - 1;
            rows &= rows - 1;
            Key* list = shared + row * Size;
            merge_row(list, buffer(shared, row), __shfl_sync(full_warp, count, row), lane);
            const float worst = key_score(list[slots - 1]);
            if (row == lane / 4) bound0 = fmaxf(bound0, worst);
            if (row == lane / 4 + 8) bound1 = fmaxf(bound1, worst);
        }
        if (count > above) counts[lane] = 0;
        __syncwarp();
    }

    __device__ __forceinline__ void finish(Key*, int, int) {}
    __device__ __forceinline__ static const Key* final_list(const Key* shared, int row) {
        return shared + row * Size;
    }
};

/// The M-th largest (from 1) of eight values.
template <int M>
__device__ __forceinline__ float nth_largest(const float (&v)[8]) {
    float top[M];
#pragma unroll
    for (int i = 0; i < M; ++i) top[i] = -INFINITY;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        float x = v[i];
#pragma unroll
        for (int j = 0; j < M; ++j) {
            const float larger = fmaxf(top[j], x);
            x = fminf(top[j], x);
            top[j] = larger;
        }
    }
    return top[M - 1];
}

/// A first bound from one tile of 128 columns: each lane's M-th largest of the maxima of its 8 groups of 4 columns. 4 *
/// M different scores of the row are not below the least of these over the quad; nothing below it can be among the best
/// 4 * M. Masked columns are -inf, so too few columns give -inf.
template <int M>
__device__ __forceinline__ float first_bound(const float (&d)[64], int half) {
    float best;
    float v[8];
#pragma unroll
    for (int g = 0; g < 8; ++g) {
        const int i = 8 * g + 2 * half;
        v[g] = fmaxf(fmaxf(d[i], d[i + 1]), fmaxf(d[i + 4], d[i + 5]));
    }
    if constexpr (M == 8) {
        best = v[0];
#pragma unroll
        for (int g = 1; g < 8; ++g) best = fminf(best, v[g]);
    } else {
        best = nth_largest<M>(v);
    }
    best = fminf(best, __shfl_xor_sync(full_warp, best, 1));
    best = fminf(best, __shfl_xor_sync(full_warp, best, 2));
    return next_below(best);
}

/// The state of one warp over the tiles of its 16 rows.
template <typename Lists>
struct WarpTopK {
    Lists lists;
    Key* shared;  // Lists::warp_keys keys of this warp
    int* counts;  // [16]: keys in the buffer of each row
    int lane;
    int slots;
    float bound0, bound1;  // of rows lane / 4 and lane / 4 + 8

    /// Rows without any candidate take part with empty0 / empty1 and never collect anything.
    __device__ __forceinline__ void begin(bool empty0, bool empty1) {
        if (lane < warp_rows) counts[lane] = 0;
        lists.reset(shared, slots);
        bound0 = empty0 ? INFINITY : -INFINITY;
        bound1 = empty1 ? INFINITY : -INFINITY;
        __syncwarp();
    }

    __device__ __forceinline__ void append(int row, float score, int block) {
        const int at = atomicAdd(counts + row, 1);
        Lists::buffer(shared, row)[at] = make_key(score, block);
    }

    /// One tile: d as ptx::Wgmma writes it, column c is block first_block + c. Masked columns are -inf.
    __device__ __forceinline__ void scan(const float (&d)[64], int first_block) {
        if constexpr (Lists::Size <= 32) {
            if (__any_sync(full_warp, bound0 == -INFINITY || bound1 == -INFINITY)) {
                constexpr int M = Lists::Size <= 8 ? 2 : Lists::Size <= 16 ? 4 : 8;
                bound0 = fmaxf(bound0, first_bound<M>(d, 0));
                bound1 = fmaxf(bound1, first_bound<M>(d, 1));
            }
        }
        constexpr int group_values = Lists::group_columns / 2;  // values a lane holds of a group, both rows
        const int row = lane / 4;
        const int column = first_block + 2 * (lane % 4);
        // From the last group of columns to the first: what comes after a merge is always a lower block.
#pragma unroll
        for (int g = 64 - group_values; g >= 0; g -= group_values) {
            float best0 = d[g], best1 = d[g + 2];
#pragma unroll
            for (int i = g; i < g + group_values; i += 4) {
                best0 = fmaxf(best0, fmaxf(d[i], d[i + 1]));
                best1 = fmaxf(best1, fmaxf(d[i + 2], d[i + 3]));
            }
            const bool any0 = best0 > bound0, any1 = best1 > bound1;
            if (!__any_sync(full_warp, any0 || any1)) continue;
            if (any0) {
#pragma unroll
                for (int i = g; i < g + group_values; i += 4) {
                    if (d[i] > bound0) append(row, d[i], column + 2 * i);
                    if (d[i + 1] > bound0) append(row, d[i + 1], column + 2 * i + 1);
                }
            }
            if (any1) {
#pragma unroll
                for (int i = g; i < g + group_values; i += 4) {
                    if (d[i + 2] > bound1) append(row + 8, d[i + 2], column + 2 * i);
                    if (d[i + 3] > bound1) append(row + 8, d[i + 3], column + 2 * i + 1);
                }
            }
            __syncwarp();
            const bool full = lane < warp_rows && counts[lane] > Lists::flush_above;
            if (__any_sync(full_warp, full)) {
                lists.flush(shared, counts, Lists::flush_above, slots, bound0, bound1, lane);
            }
        }
    }

    __device__ __forceinline__ void end() {
        lists.flush(shared, counts, 0, slots, bound0, bound1, lane);
        lists.finish(shared, slots, lane);
    }
};

}  // namespace mobalab::kernels::cuda
