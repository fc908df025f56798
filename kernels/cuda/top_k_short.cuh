#pragma once

#include <cfloat>
#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/top_k_key.cuh"

// Exact top-k for short lists (up to 16), one warp for 16 rows, nothing shared between warps.
//
// Every row has a threshold that at least `slots` of its scores reach. Groups of four columns are compared with it by
// their maximum; a lane appends the groups that reach it, whole, to a buffer of its own in shared memory: straight-line
// code without branches, shuffles or atomics. Only when a buffer is nearly full, and at the end, single scores are
// taken out, brought together by row and merged into sorted lists in registers. How full a buffer was never matters to
// the result.
namespace mobalab::kernels::cuda {

/// Finds a threshold from scores alone, without keeping any: each lane holds the M largest maxima of its groups of 4
/// columns, for both of its rows. Over the quad these are 4 * M different scores of the row, and 4 * M - 1 of them
/// reach the second smallest. So nothing below that one can be among the best 4 * M - 1. Masked columns are -inf, so
/// too few columns give -inf.
template <int M>
struct ThresholdFinder {
    float top[2][M];  // largest first

    __device__ __forceinline__ void reset() {
#pragma unroll
        for (int i = 0; i < M; ++i) top[0][i] = top[1][i] = -INFINITY;
    }
    __device__ __forceinline__ void add(const float (&d)[64]) {
#pragma unroll
        for (int group = 0; group < tile_groups; ++group) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                float x = group_max(d, group, h);
#pragma unroll
                for (int m = 0; m < M; ++m) {
                    const float larger = fmaxf(top[h][m], x);
                    x = fminf(top[h][m], x);
                    top[h][m] = larger;
                }
            }
        }
    }
    /// For row lane / 4 + 8 * half.
    __device__ __forceinline__ float threshold(int half) const {
        float smallest = top[half][M - 1], second = top[half][M - 2];
#pragma unroll
        for (int step = 1; step <= 2; step *= 2) {
            const float other_smallest = __shfl_xor_sync(full_warp, smallest, step);
            const float other_second = __shfl_xor_sync(full_warp, second, step);
            second = fminf(fmaxf(smallest, other_smallest), fminf(second, other_second));
            smallest = fminf(smallest, other_smallest);
        }
        return second;
    }
};

/// The state of one warp over the tiles of its 16 rows. Size: a power of two, at least `slots` + 1.
template <int Size_>
class ShortTopK {
public:
    static constexpr int Size = Size_;
    static_assert(Size == 8 || Size == 16);
    static constexpr int staged = 16;           // keys of a row that one merge takes
    static constexpr int pitch = staged + 1;    // odd: rows start in different banks
    static constexpr int capacity = 13;         // groups a lane's buffer holds
    static constexpr int entry_bytes = 16 + 2;  // four scores; column and row
    static constexpr int staging_bytes = warp_rows * pitch * static_cast<int>(sizeof(Key));
    static constexpr int shared_bytes = staging_bytes + capacity * 32 * entry_bytes;  // of a warp
    static_assert(staging_bytes % 16 == 0 && shared_bytes % 16 == 0);

    __device__ __forceinline__ ShortTopK(unsigned char* shared, int slots, int lane)
        : staging_(ptx::shared_address(shared)), slots_(slots), lane_(lane) {}

    /// A row without any candidate never collects anything.
    __device__ __forceinline__ void begin(bool any0, bool any1, bool surveyed) {
        // The places that `slots` leaves over in the lists of lanes 0..15 hold keys that nothing beats, so the last
        // place of both halves together is the worst kept.
#pragma unroll
        for (int i = 0; i < Size; ++i) list_[i] = lane_ < warp_rows && i < Size - slots_ ? ~Key{0} : empty_key;
        threshold_[0] = any0 ? -FLT_MAX : INFINITY;
        threshold_[1] = any1 ? -FLT_MAX : INFINITY;
        if (surveyed) {
            raise();
        } else {
            finder_.reset();
        }
        clear();
    }

    /// The first of two passes: only finds thresholds.
    __device__ __forceinline__ void begin_survey(int) {
        finder_.reset();
    }
    __device__ __forceinline__ void survey(const float (&d)[64], int) {
        finder_.add(d);
    }

    /// One tile: d as ptx::Wgmma writes it, column c is block first_block + c. Masked columns are -inf. From the
    /// highest columns down: what comes after a merge is always a lower block, so it must exceed what was kept.
    __device__ __forceinline__ void scan(const float (&d)[64], int first_block, bool surveyed) {
        if (!surveyed) {
            finder_.add(d);
            raise();
        }
        const auto group0 = static_cast<std::uint32_t>(first_block + 2 * (lane_ % 4));
        int from = tile_groups - 1;
#pragma unroll 1
        while ((from = collect<tile_groups - 1>(d, group0, from)) >= 0) flush();
    }

    /// Afterwards final_key(r, 0) is the best of row r.
    __device__ __forceinline__ void end() {
        flush();
        finish();
    }
    __device__ __forceinline__ Key final_key(int row, int slot) const {
        return load_key(staged_key(row, slot));
    }

private:
    using Finder = ThresholdFinder<Size / 4>;
    static constexpr std::uint32_t score_stride = 32 * 16;

    Key list_[Size];  // best first; lanes r and r + 16 each keep the best of half of what row r was offered
    float threshold_[2];
    Finder finder_;
    std::uint32_t staging_;     // address of the warp's shared memory
    std::uint32_t next_score_;  // address of the next entry's scores
    int slots_, lane_;

    // Addresses. Those of group numbers follow from those of scores: their strides have the ratio 8.
    __device__ __forceinline__ std::uint32_t staged_key(int row, int i) const {
        return staging_ + (row * pitch + i) * static_cast<int>(sizeof(Key));
    }
    __device__ __forceinline__ std::uint32_t first_score() const {
        return staging_ + staging_bytes + 16 * lane_;
    }
    __device__ __forceinline__ std::uint32_t group_of(std::uint32_t score) const {
        return staging_ + staging_bytes + capacity * score_stride + (score - staging_ - staging_bytes) / 8;
    }
    __device__ __forceinline__ void clear() {
        next_score_ = first_score();
    }
    __device__ __forceinline__ bool nearly_full() const {
        return next_score_ - staging_ >= staging_bytes + (capacity - 1) * score_stride;
    }

    /// Appends a group of row `Half` if it reaches the threshold.
    template <int Group, int Half>
    __device__ __forceinline__ void append(const float (&d)[64], float largest, std::uint32_t group0) {
        constexpr int i = 8 * Group + 2 * Half;
        asm volatile(
            "{\n"
            ".reg .pred p;\n"
            "setp.ge.f32 p, %1, %2;\n"
            "@p st.shared.v2.f32 [%0], {%3, %4};\n"
            "@p st.shared.v2.f32 [%0 + 8], {%5, %6};\n"
            "@p st.shared.u16 [%7], %8;\n"
            "@p add.u32 %0, %0, %9;\n"
            "}"
            : "+r"(next_score_)
            : "f"(largest), "f"(threshold_[Half]), "f"(d[i]), "f"(d[i + 1]), "f"(d[i + 4]), "f"(d[i + 5]),
              "r"(group_of(next_score_)), "r"(group0 + 16 * Group + Half), "n"(score_stride)
            : "memory");
    }

    /// Appends the groups from number `from` down; returns the group before which a buffer must be emptied, or -1.
    template <int Group>
    __device__ __forceinline__ int collect(const float (&d)[64], std::uint32_t group0, int from) {
        const float largest0 = group_max(d, Group, 0), largest1 = group_max(d, Group, 1);
        const bool reached = largest0 >= threshold_[0] || largest1 >= threshold_[1];
        if (__any_sync(full_warp, reached && Group <= from)) {
            if (__any_sync(full_warp, nearly_full())) return Group;
            append<Group, 0>(d, largest0, group0);
            append<Group, 1>(d, largest1, group0);
        }
        if constexpr (Group > 0) {
            return collect<Group - 1>(d, group0, from);
        } else {
            return -1;
        }
    }

    __device__ __forceinline__ void raise() {
#pragma unroll
        for (int h = 0; h < 2; ++h) threshold_[h] = fmaxf(threshold_[h], finder_.threshold(h));
    }

    /// Empties the buffers into the lists; the thresholds then exceed what every list kept worst.
    __device__ __forceinline__ void flush() {
        const int count = static_cast<int>((next_score_ - first_score()) / score_stride);
        const int longest = __reduce_max_sync(full_warp, count);
        int fill0 = 0, fill1 = 0;  // staged keys of both rows, the same in all lanes of a quad
#pragma unroll 1
        for (int e = 0; e < longest; ++e) stage(e, e < count, fill0, fill1);
        merge(fill0, fill1);
        clear();
        const float worst = score_of_bits(worst_kept());
        // A list that is not full keeps -inf at worst.
        const float above = worst == -INFINITY ? worst : next_above(worst);
        threshold_[0] = fmaxf(threshold_[0], __shfl_sync(full_warp, above, lane_ / 4));
        threshold_[1] = fmaxf(threshold_[1], __shfl_sync(full_warp, above, lane_ / 4 + 8));
    }

    /// Moves the scores of entry e that reach the threshold to the staging area of their rows.
    __device__ __forceinline__ void stage(int e, bool exists, int& fill0, int& fill1) {
        float x[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
        std::uint32_t group = 0;
        const std::uint32_t score = first_score() + e * score_stride;
        if (exists) {
            asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                         : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3])
                         : "r"(score)
                         : "memory");
            asm volatile("ld.shared.u16 %0, [%1];" : "=r"(group) : "r"(group_of(score)) : "memory");
        }
        const bool second = (group & 1) != 0;
        const float threshold = second ? threshold_[1] : threshold_[0];
        int mine = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) mine += x[i] >= threshold ? 1 : 0;
        // Where they go: an exclusive sum over the quad, both rows in one integer.
        mine = second ? mine << 16 : mine;
        int sum = mine;
        int other = __shfl_up_sync(full_warp, sum, 1, 4);
        if (lane_ % 4 >= 1) sum += other;
        other = __shfl_up_sync(full_warp, sum, 2, 4);
        if (lane_ % 4 >= 2) sum += other;
        const int total = __shfl_sync(full_warp, sum, 3, 4);
        if (__any_sync(full_warp, fill0 + (total & 0xffff) > staged || fill1 + (total >> 16) > staged)) {
            merge(fill0, fill1);
            fill0 = fill1 = 0;
        }
        sum -= mine;
        std::uint32_t to =
            second ? staged_key(lane_ / 4 + 8, fill1 + (sum >> 16)) : staged_key(lane_ / 4, fill0 + (sum & 0xffff));
        const std::uint32_t block = group & ~1u;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (x[i] >= threshold) {
                store_key(to, (static_cast<Key>(__float_as_uint(x[i])) << 32) | (block + (i & 1) + (i & 2) * 4));
                to += sizeof(Key);
            }
        }
        fill0 += total & 0xffff;
        fill1 += total >> 16;
    }

    /// Merges the staged scores of all rows into the lists.
    __device__ __forceinline__ void merge(int fill0, int fill1) {
        __syncwarp();
        const int fill = of_row(fill0, fill1, lane_);
        const int half = lane_ / warp_rows;
        const std::uint32_t from = staged_key(lane_ % warp_rows, half);
        Key fresh[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            fresh[i] = empty_key;
            if (2 * i + half < fill) {
                const Key raw = load_key(from + 2 * i * sizeof(Key));
                fresh[i] =
                    make_key(__uint_as_float(static_cast<std::uint32_t>(raw >> 32)), static_cast<std::uint32_t>(raw));
            }
        }
        sort(fresh);
        // The larger of a descending and an ascending sequence, element by element, is bitonic and holds the largest.
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            Key& kept = list_[Size - 8 + i];
            kept = fresh[7 - i] > kept ? fresh[7 - i] : kept;
        }
        merge_bitonic(list_);
        __syncwarp();
    }

    /// The score bits of the Size-th best of both halves: of i from this half and Size - i from the other, for the best
    /// i.
    __device__ __forceinline__ std::uint32_t worst_kept() const {
        std::uint32_t mine[Size], other[Size];
#pragma unroll
        for (int j = 0; j < Size; ++j) {
            mine[j] = static_cast<std::uint32_t>(list_[j] >> 32);
            other[j] = __shfl_xor_sync(full_warp, mine[j], 16);
        }
        std::uint32_t worst = max(mine[Size - 1], other[Size - 1]);
#pragma unroll
        for (int i = 1; i < Size; ++i) worst = max(worst, min(mine[i - 1], other[Size - 1 - i]));
        return worst;
    }

    /// Brings both halves together, in the staging area.
    __device__ __forceinline__ void finish() {
        Key best[Size];
#pragma unroll
        for (int j = 0; j < Size; ++j) {
            const Key other = __shfl_xor_sync(full_warp, list_[Size - 1 - j], 16);
            best[j] = list_[j] > other ? list_[j] : other;
        }
        merge_bitonic(best);
        if (lane_ < warp_rows) {
#pragma unroll
            for (int j = 0; j < Size; ++j) {
                if (j >= Size - slots_) store_key(staged_key(lane_, j - (Size - slots_)), best[j]);
            }
        }
        __syncwarp();
    }
};

}  // namespace mobalab::kernels::cuda
