#pragma once

#include <cfloat>
#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/top_k_key.cuh"

// Exact top-k for short lists (fewer than 16), one warp for 16 rows, nothing shared between warps.
//
// Every row has a threshold that at least `slots` of its scores reach. What reaches it is appended to a buffer that
// belongs to one lane and one of its rows: straight-line predicated code, no loops, no shuffles, no atomics. After a
// few tiles, at every doubling of the tiles (each lets about as many scores pass) and at the end, buffers are merged
// into sorted lists in registers, and the thresholds rise. That is in all warps of a warpgroup at the same tile: they
// meet at every product, so one that stops alone stops all. A buffer that would overflow in between makes the warp
// empty its buffers and repeat the tile in small steps, so the result never depends on a capacity.
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
template <int Size_, int Capacity>
class ShortTopK {
public:
    static constexpr int Size = Size_;
    static_assert(Size == 8 || Size == 16);
    static constexpr int capacity = Capacity;  // keys a buffer holds; two places more take what would overflow it
    static constexpr int shared_bytes = (capacity + 2) * 2 * 32 * static_cast<int>(sizeof(Key));  // of a warp
    static constexpr bool surveys = false;
    /// Until the first merge thresholds come from the finder, and hardly any group has nothing to append.
    static constexpr int first_merge = Size == 8 ? 4 : 2;

    __device__ __forceinline__ ShortTopK(unsigned char* shared, int slots, int lane)
        : shared_(ptx::shared_address(shared)), slots_(slots), lane_(lane) {}

    /// A row without any candidate never collects anything.
    __device__ __forceinline__ void begin(bool any0, bool any1) {
        // The places that `slots` leaves over in the lists of lanes 0..15 hold keys that nothing beats, so the last
        // place of both halves together is the worst kept.
#pragma unroll
        for (int i = 0; i < Size; ++i) list_[i] = lane_ < warp_rows && i < Size - slots_ ? ~Key{0} : empty_key;
        threshold_[0] = any0 ? -FLT_MAX : INFINITY;
        threshold_[1] = any1 ? -FLT_MAX : INFINITY;
        finder_.reset();
        clear();
    }

    /// One tile: d as ptx::Wgmma writes it, column c is block first_block + c. Masked columns are -inf. Tiles come in
    /// descending order of blocks, and `number` of them, this one included, have passed.
    __device__ __forceinline__ void scan(const float (&d)[64], int first_block, int number) {
        const int column = first_block + 2 * (lane_ % 4);
        const std::uint32_t begin0 = next_[0], begin1 = next_[1];
        if (number <= first_merge) {
            find(d);
            collect_all<tile_groups - 1>(d, column);
        } else {
            collect<tile_groups - 1>(d, column, groups_reaching(d));
        }
        bool due = first_block == 0 || (number >= first_merge && (number & (number - 1)) == 0);
        int group = 0;
        if (__any_sync(full_warp, max(next_[0], next_[1]) >= limit())) {
            // Once more, in small steps, and with the best thresholds.
            next_[0] = begin0;
            next_[1] = begin1;
            if (number > first_merge) find(d);
            group = tile_groups;
            due = true;
        }
#pragma unroll 1
        while (true) {
            if (due) merge();
            if (group == 0) break;
            --group;
            collect<tile_groups - 1>(d, column, groups_reaching(d) & (3u << (2 * group)));
            due = group == 0 || __any_sync(full_warp, max(next_[0], next_[1]) > limit() - group_columns * slot_bytes);
        }
    }

    /// Afterwards final_key(r, 0) is the best of row r. The last tile was the one of block 0.
    __device__ __forceinline__ void end() {
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
                if (j >= Size - slots_) store_key(final_address(lane_, j - (Size - slots_)), best[j]);
            }
        }
        __syncwarp();
    }
    __device__ __forceinline__ Key final_key(int row, int slot) const {
        return load_key(final_address(row, slot));
    }

private:
    static constexpr int group_columns = 4;  // of a lane
    static constexpr std::uint32_t row_bytes = 32 * sizeof(Key), slot_bytes = 2 * row_bytes;

    Key list_[Size];  // best first; lanes r and r + 16 each keep the best of half of what row r was offered
    float threshold_[2];
    ThresholdFinder<Size / 4> finder_;
    std::uint32_t shared_;   // address of the warp's shared memory: [place][half][lane] of (block, score)
    std::uint32_t next_[2];  // address of the lane's next place, for both rows; row 1 is row_bytes further
    int slots_, lane_;

    __device__ __forceinline__ std::uint32_t first() const {
        return shared_ + lane_ * sizeof(Key);
    }
    __device__ __forceinline__ std::uint32_t limit() const {
        return first() + capacity * slot_bytes;
    }
    __device__ __forceinline__ std::uint32_t final_address(int row, int slot) const {
        return shared_ + (row * (Size + 1) + slot) * sizeof(Key);  // odd pitch: rows start in different banks
    }
    __device__ __forceinline__ void clear() {
        next_[0] = next_[1] = first();
    }
    /// Appends one score if it reaches the threshold.
    template <int Half>
    __device__ __forceinline__ void append(float score, int block) {
        asm volatile(
            "{\n"
            ".reg .pred p;\n"
            "setp.ge.f32 p, %1, %2;\n"
            "@p st.shared.u32 [%0 + %4], %3;\n"
            "@p st.shared.f32 [%0 + %4 + 4], %1;\n"
            "@p add.u32 %0, %0, %5;\n"
            "}"
            : "+r"(next_[Half])
            : "f"(score), "f"(threshold_[Half]), "r"(block), "n"(Half * row_bytes), "n"(slot_bytes)
            : "memory");
    }

    /// Appends what reaches the threshold in one group of one row.
    template <int Group, int Half>
    __device__ __forceinline__ void append_group(const float (&d)[64], int column) {
        constexpr int i = 8 * Group + 2 * Half;
#pragma unroll
        for (int j = 0; j <= 4; j += 4) {
            append<Half>(d[i + j], column + 16 * Group + 2 * j);
            append<Half>(d[i + j + 1], column + 16 * Group + 2 * j + 1);
            next_[Half] = min(next_[Half], limit());
        }
    }
    template <int Group>
    __device__ __forceinline__ void collect_all(const float (&d)[64], int column) {
        append_group<Group, 0>(d, column);
        append_group<Group, 1>(d, column);
        if constexpr (Group > 0) collect_all<Group - 1>(d, column);
    }

    /// Bit 2 * group + half: some lane has something to append.
    __device__ __forceinline__ std::uint32_t groups_reaching(const float (&d)[64]) const {
        std::uint32_t reaching = 0;
#pragma unroll
        for (int i = 0; i < 2 * tile_groups; ++i) {
            if (group_max(d, i / 2, i % 2) >= threshold_[i % 2]) reaching |= 1u << i;
        }
        return __reduce_or_sync(full_warp, reaching);
    }
    /// The same for the marked groups.
    template <int Group>
    __device__ __forceinline__ void collect(const float (&d)[64], int column, std::uint32_t marked) {
        if ((marked & (1u << (2 * Group))) != 0) append_group<Group, 0>(d, column);
        if ((marked & (2u << (2 * Group))) != 0) append_group<Group, 1>(d, column);
        if constexpr (Group > 0) collect<Group - 1>(d, column, marked);
    }

    /// Raises the thresholds to what the finder sees in this tile.
    __device__ __forceinline__ void find(const float (&d)[64]) {
        finder_.add(d);
#pragma unroll
        for (int h = 0; h < 2; ++h) threshold_[h] = fmaxf(threshold_[h], finder_.threshold(h));
    }

    /// Empties the buffers into the lists; the thresholds then exceed what every list kept worst.
    __device__ __forceinline__ void merge() {
        __syncwarp();
        const int count0 = static_cast<int>((next_[0] - first()) / slot_bytes);
        const int count1 = static_cast<int>((next_[1] - first()) / slot_bytes);
        const int longest = __reduce_max_sync(full_warp, max(count0, count1));
        // This lane takes row lane % 16, and of the four buffers of that row the first or the last two.
        const int row = lane_ % warp_rows, source = 4 * (row % 8) + 2 * (lane_ / warp_rows);
        const int counts = count0 | (count1 << 16);
        const int shift = row < 8 ? 0 : 16;
        const int count_a = (__shfl_sync(full_warp, counts, source) >> shift) & 0xffff;
        const int count_b = (__shfl_sync(full_warp, counts, source + 1) >> shift) & 0xffff;
        std::uint32_t from = shared_ + source * sizeof(Key) + (row < 8 ? 0 : row_bytes);
#pragma unroll 1
        for (int place = 0; place < longest; place += 4) {
            Key fresh[8];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                float a, b;
                std::uint32_t block_a, block_b;
                asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                             : "=r"(block_a), "=f"(a), "=r"(block_b), "=f"(b)
                             : "r"(from + i * slot_bytes)
                             : "memory");
                fresh[2 * i] = place + i < count_a ? make_key(a, block_a) : empty_key;
                fresh[2 * i + 1] = place + i < count_b ? make_key(b, block_b) : empty_key;
            }
            from += 4 * slot_bytes;
            keep(fresh);
        }
        clear();
        const float above = next_above(score_of_bits(worst_kept()));
        threshold_[0] = fmaxf(threshold_[0], __shfl_sync(full_warp, above, lane_ / 4));
        threshold_[1] = fmaxf(threshold_[1], __shfl_sync(full_warp, above, lane_ / 4 + 8));
        __syncwarp();
    }

    /// Merges 8 keys into the list.
    __device__ __forceinline__ void keep(Key (&fresh)[8]) {
        sort(fresh);
        // The larger of a descending and an ascending sequence, element by element, is bitonic and holds the largest.
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            Key& kept = list_[Size - 8 + i];
            kept = fresh[7 - i] > kept ? fresh[7 - i] : kept;
        }
        merge_bitonic(list_);
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
};

}  // namespace mobalab::kernels::cuda
