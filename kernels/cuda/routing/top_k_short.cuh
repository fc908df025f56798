#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/routing/best_of_row.cuh"
#include "kernels/cuda/routing/threshold_finder.cuh"
#include "kernels/cuda/routing/top_k_key.cuh"

// Exact top-k for short lists (fewer than 16), one warp for 16 rows, nothing shared between warps.
//
// Every row has a floor that at least `slots` of its scores reach, or all. What is not below it is marked in a bit mask
// per lane, without branches, and appended to the row's buffer in shared memory. After a few tiles, then whenever the
// number of tiles has grown by a factor (each time about as many scores pass), and at the end, a buffer is cut down to
// its best, and the floor rises above the worst of them. That is in all warps of a warpgroup at the same tile: they
// meet at every product, so one that stops alone stops all. A buffer that would overflow in between is cut down before,
// so the result never depends on a capacity.
//
// A tile is taken in two steps: take() is the last to read the scores, so the next tile's product may follow it;
// append() works from a copy in shared memory (registers cannot be indexed) while that product is under way.
namespace mobalab::kernels::cuda {

/// The state of one warp over the tiles of its 16 rows. Size: a power of two, at least `slots` + 1. Capacity: scores a
/// row's buffer holds.
template <int Size_, int Capacity>
class ShortTopK {
public:
    static constexpr int Size = Size_;
    static_assert(Size == 8 || Size == 16);
    static constexpr int tile_blocks = 64, values = tile_blocks / 2;  // of a lane
    static constexpr bool surveys = false, stores_scores = false;
    static constexpr int no_block = 0xffff;  // buffers keep 16 bits; limits.cc sees to it that these are enough
    /// Tiles before the first cut (floors come from the finder until then), and by what this number grows, in halves.
    static constexpr int first_cut = Size == 8 ? 3 : 2, cut_growth = Size == 8 ? 5 : 4;

private:
    static constexpr int quarters = 4;  // of a tile: 8 values of a lane, 16 columns of a row
    static_assert(Size + tile_blocks / quarters <= Capacity, "room for a quarter of a tile after a cut");
    static constexpr std::uint32_t place_bits = Capacity <= 32 ? 5 : 6, place_mask = (1u << place_bits) - 1;
    static_assert(Capacity <= 1 << place_bits);
    static constexpr std::uint32_t score_pitch = (Capacity + 1) * 4,
                                   block_pitch = score_pitch / 2;  // odd: no conflicts
    static constexpr std::uint32_t scores_bytes = warp_rows * score_pitch, blocks_bytes = warp_rows * block_pitch;
    static constexpr std::uint32_t parked_bytes = 32 * values * 4;
    static constexpr std::uint32_t row1_bits = 0xccccccccu;  // value i is of the lane's second row when i % 4 >= 2

public:
    static constexpr int shared_bytes = parked_bytes + (scores_bytes + blocks_bytes + 127) / 128 * 128;  // of a warp

    __device__ __forceinline__ ShortTopK(unsigned char* shared, int slots, int lane)
        : parked_(ptx::shared_address(shared) + 16 * lane), slots_(slots), lane_(lane) {}

    /// A row without any candidate never collects anything.
    __device__ __forceinline__ void begin(bool any0, bool any1) {
        floor_[0] = any0 ? lowest_floor : INFINITY;
        floor_[1] = any1 ? lowest_floor : INFINITY;
        finder_.reset();
        filled_ = 0;
    }

    /// One tile: d as ptx::Wgmma writes it, masked columns are -inf. Tiles come in descending order of blocks, and
    /// `number` of them, this one included, have passed. False if buffers have no room for what it marked.
    __device__ __forceinline__ bool take(const float (&d)[values], int number) {
        if (number <= first_cut) find(d);
        mask_ = reaching(d);
        return place(mask_, [&] { park(d); });
    }
    /// A tile in which no row of the warp has candidates.
    __device__ __forceinline__ void take_nothing() { mask_ = 0; }
    /// After a take() without room: lowers the number of marked scores as far as the tile allows. False if that is not
    /// enough.
    __device__ __forceinline__ bool take_less(int number) {
        float d[values];
        recall(d);
        if (number > first_cut) find(d);  // once a tile, or scores would count twice
        mask_ = reaching(d);
        return place(mask_);
    }
    /// Puts what take() marked into the buffers. Column c of the tile is block first_block + c.
    __device__ __forceinline__ void append(int first_block) { append(mask_, first_block); }

    /// The same and a cut; without room for all of the tile by quarters, with cuts where there is none: from the
    /// highest quarter down, since what comes after a cut must be of lower blocks: it has to beat what was kept. Leaves
    /// nothing marked. `due`: there is a cut at the end in any case.
    __device__ __forceinline__ void append_and_cut(int first_block, bool room, bool due) {
        int quarter = room ? -1 : quarters - 1;
        if (room) append(mask_, first_block);
        bool again = true;
        while (again) {
            cut();
            again = false;
            if (quarter < 0) break;
            float d[values];
            recall(d);
            mask_ = reaching(d);
            while (quarter >= 0 && append_quarter(first_block, quarter)) --quarter;
            again = quarter >= 0 || due;
        }
        mask_ = 0;
    }

    /// After the cut of the last tile; -1 and -inf where a row has fewer.
    __device__ __forceinline__ int final_block(int row, int slot) const {
        const int block = load_block(shared() + row_blocks(row), slot);
        return block == no_block ? -1 : block;
    }
    __device__ __forceinline__ float final_score(int row, int slot) const {
        return load_score(shared() + row_scores(row), slot);
    }

private:
    float floor_[2];  // scores must reach it
    ThresholdFinder<Size / 4> finder_;
    std::uint32_t parked_;  // address of the lane's copy of the tile: value i at 128 * (i / 4 * 4) + 4 * (i % 4)
    std::uint32_t filled_;  // bytes of scores that both rows' buffers hold (low and high half)
    std::uint32_t mask_;    // bit i: value i is to be appended
    std::uint32_t at_;      // as filled_: where the lane's first marked scores go
    int slots_, lane_;

    /// Hides from the compiler that it knows x: what follows from it is cheaper computed again than kept in registers.
    template <typename Integer>
    static __device__ __forceinline__ Integer recomputed(Integer x) {
        asm volatile("" : "+r"(x));
        return x;
    }
    /// Address of the warp's shared memory: parked tile, scores of the rows, their blocks.
    __device__ __forceinline__ std::uint32_t shared() const { return recomputed(parked_) - 16 * lane_; }
    /// Offsets of the scores of a row and of the low halves of their blocks.
    static __device__ __forceinline__ std::uint32_t row_scores(int row) { return parked_bytes + row * score_pitch; }
    static __device__ __forceinline__ std::uint32_t row_blocks(int row) {
        return parked_bytes + scores_bytes + row * block_pitch;
    }
    static __device__ __forceinline__ float load_score(std::uint32_t scores, int place) {
        float score;
        asm volatile("ld.shared.f32 %0, [%1];" : "=f"(score) : "r"(scores + 4 * place) : "memory");
        return score;
    }
    static __device__ __forceinline__ std::uint16_t load_block(std::uint32_t blocks, int place) {
        std::uint16_t block;
        asm volatile("ld.shared.u16 %0, [%1];" : "=h"(block) : "r"(blocks + 2 * place) : "memory");
        return block;
    }

    /// Bit i: d[i] is not below the floor of its row. The sign of (score - floor) says that it is, shifted in from the
    /// left; equal numbers, +inf beside +inf and NaN give +0 or the positive NaN.
    __device__ __forceinline__ std::uint32_t reaching(const float (&d)[values]) const {
        std::uint32_t part[4] = {};
#pragma unroll
        for (int i = 7; i >= 0; --i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float difference = d[8 * j + i] - floor_[i / 2 % 2];
                part[j] = __funnelshift_l(__float_as_uint(difference), part[j], 1);
            }
        }
        return ~(part[0] | (part[1] << 8) | (part[2] << 16) | (part[3] << 24));
    }

    /// Makes room for the marked values of all lanes: an exclusive sum over each quad, both rows in one integer. False,
    /// and nothing changed, where one buffer would overflow.
    __device__ __forceinline__ bool place(std::uint32_t mask) {
        return place(mask, [] {});
    }
    /// `meanwhile` is done while the sum is under way.
    template <typename Meanwhile>
    __device__ __forceinline__ bool place(std::uint32_t mask, const Meanwhile& meanwhile) {
        const std::uint32_t mine =
            4 * static_cast<std::uint32_t>(__popc(mask & ~row1_bits) | (__popc(mask & row1_bits) << 16));
        const std::uint32_t neighbour = __shfl_xor_sync(full_warp, mine, 1);
        meanwhile();
        const std::uint32_t pair = mine + neighbour;
        const std::uint32_t other_pair = __shfl_xor_sync(full_warp, pair, 2);
        const std::uint32_t after = filled_ + pair + other_pair;
        constexpr std::uint32_t spare = 0x8000 - 4 * Capacity - 1;  // of a half, before its highest bit is set
        if (__any_sync(full_warp, ((after + spare * 0x10001u) & 0x80008000u) != 0)) return false;
        at_ = filled_ + ((lane_ & 1) != 0 ? neighbour : 0) + ((lane_ & 2) != 0 ? other_pair : 0);
        filled_ = after;
        return true;
    }
    static __device__ __forceinline__ std::uint32_t highest_bit(std::uint32_t mask) {
        std::uint32_t bit;
        asm("bfind.u32 %0, %1;" : "=r"(bit) : "r"(mask));
        return bit;
    }
    /// Both rows at once: fewer rounds, and more loads in flight.
    __device__ __forceinline__ void append(std::uint32_t mask, int first_block) {
        const int lane = recomputed(lane_);
        const std::uint32_t from = recomputed(parked_), base = from - 16 * lane;
        // A score at address a has its block at a / 2 plus what is the same for all.
        const std::uint32_t to_block = base / 2 + parked_bytes / 2 + scores_bytes;
        std::uint32_t mask0 = mask & ~row1_bits, mask1 = mask & row1_bits;
        std::uint32_t scores0 = base + row_scores(lane / 4) + at_ % 0x10000u;
        std::uint32_t scores1 = base + row_scores(lane / 4 + 8) + at_ / 0x10000u;
        const int column = first_block + 2 * (lane % 4);
        while ((mask0 | mask1) != 0) {
            // Of an empty mask value 0, which is loaded and not stored.
            const std::uint32_t i0 = highest_bit(mask0 | 1), i1 = highest_bit(mask1 | 1);
            // Value 4 * j + e is column 8 * j + e of row 0, value 4 * j + 2 + e the same of row 1.
            asm volatile(
                "{\n"
                ".reg .pred p0, p1;\n"
                ".reg .f32 x0, x1;\n"
                "setp.ne.u32 p0, %0, 0;\n"
                "setp.ne.u32 p1, %1, 0;\n"
                "ld.shared.f32 x0, [%2];\n"
                "ld.shared.f32 x1, [%3];\n"
                "@p0 st.shared.u16 [%6], %8;\n"
                "@p1 st.shared.u16 [%7], %9;\n"
                "@p0 st.shared.f32 [%4], x0;\n"
                "@p1 st.shared.f32 [%5], x1;\n"
                "}" ::"r"(mask0),
                "r"(mask1), "r"(from + 124 * (i0 & 28) + 4 * i0), "r"(from + 124 * (i1 & 28) + 4 * i1), "r"(scores0),
                "r"(scores1), "r"(scores0 / 2 + to_block), "r"(scores1 / 2 + to_block),
                "h"(static_cast<std::uint16_t>(column + i0 + (i0 & 30))),
                "h"(static_cast<std::uint16_t>(column - 4 + i1 + (i1 & 30)))
                : "memory");
            mask0 &= ~(1u << i0);
            mask1 &= ~(1u << i1);
            scores0 += 4;
            scores1 += 4;
        }
    }

    __device__ __forceinline__ void park(const float (&d)[values]) const {
#pragma unroll
        for (int i = 0; i < values; i += 4) {
            asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(parked_ + 128 * i), "f"(d[i]), "f"(d[i + 1]),
                         "f"(d[i + 2]), "f"(d[i + 3])
                         : "memory");
        }
    }
    /// False if there is no room for this quarter.
    __device__ __forceinline__ bool append_quarter(int first_block, int quarter) {
        const std::uint32_t part = mask_ & (0xffu << (8 * quarter));
        if (!place(part)) return false;
        append(part, first_block);
        return true;
    }

    /// Cuts all buffers down to their best `slots`, sorted. After the last tile these are the result.
    __device__ __forceinline__ void cut() {
        __syncwarp();
        const int lane = recomputed(lane_), row = lane % warp_rows, half = lane / warp_rows;
        const int filled = __shfl_sync(full_warp, static_cast<int>(filled_), 4 * (row % 8));
        const int count = (row < 8 ? filled & 0xffff : filled >> 16) / 4;
        const int longest = __reduce_max_sync(full_warp, count);
        const std::uint32_t scores = shared() + row_scores(row), blocks = shared() + row_blocks(row);

        // First by the upper bits of the scores, which leave room for the place: 32-bit keys sort in a third of the
        // instructions. Where these bits do not decide, by everything.
        std::uint32_t best[Size];
        best_of_row(best, longest, half, [&](int place) {
            const std::uint32_t key = (ordered_bits(load_score(scores, place)) & ~place_mask) | place;
            // What is below any score and differs in its upper bits from all others.
            return place < count ? key : static_cast<std::uint32_t>(place) << place_bits;
        });
        std::uint32_t closest = ~0u;
#pragma unroll
        for (int j = 0; j + 1 < Size; ++j) closest = min(closest, best[j] ^ best[j + 1]);
        float score[Size];
        std::uint16_t block[Size];
        if (!__any_sync(full_warp, closest <= place_mask)) {
#pragma unroll
            for (int j = 0; j + 1 < Size; ++j) {
                score[j] = load_score(scores, best[j] & place_mask);
                block[j] = load_block(blocks, best[j] & place_mask);
            }
        } else {
            Key keys[Size];
            best_of_row(keys, longest, half, [&](int place) {
                const Key key = make_key(load_score(scores, place), load_block(blocks, place));
                return place < count ? key : empty_key;
            });
#pragma unroll
            for (int j = 0; j + 1 < Size; ++j) {
                score[j] = key_score(keys[j]);
                block[j] = static_cast<std::uint16_t>(keys[j]);
            }
        }
        __syncwarp();
#pragma unroll
        for (int j = 0; j + 1 < Size; ++j) {
            if (j < slots_ && half == 0) {
                asm volatile("st.shared.f32 [%0], %1;" ::"r"(scores + 4 * j), "f"(j < count ? score[j] : -INFINITY)
                             : "memory");
            }
            if (j < slots_ && half == 1) {
                asm volatile("st.shared.u16 [%0], %1;" ::"r"(blocks + 2 * j),
                             "h"(j < count ? block[j] : static_cast<std::uint16_t>(no_block))
                             : "memory");
            }
        }
        __syncwarp();
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            floor_[h] = fmaxf(floor_[h], next_above(load_score(shared() + row_scores(lane / 4 + 8 * h), slots_ - 1)));
        }
        filled_ = __vminu2(filled_, 4u * static_cast<std::uint32_t>(slots_) * 0x10001u);
        __syncwarp();
    }

    /// Reads the parked tile back.
    __device__ __forceinline__ void recall(float (&d)[values]) const {
#pragma unroll
        for (int i = 0; i < values; i += 4) {
            asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                         : "=f"(d[i]), "=f"(d[i + 1]), "=f"(d[i + 2]), "=f"(d[i + 3])
                         : "r"(parked_ + 128 * i)
                         : "memory");
        }
    }

    /// Raises the floors to what the finder sees in this tile.
    __device__ __forceinline__ void find(const float (&d)[values]) {
        finder_.add(d);
#pragma unroll
        for (int h = 0; h < 2; ++h) floor_[h] = fmaxf(floor_[h], finder_.threshold(h));
    }
};

}  // namespace mobalab::kernels::cuda
