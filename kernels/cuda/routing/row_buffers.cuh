#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <cstring>

#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/routing/top_k_key.cuh"
#include "kernels/cuda/tile/computed_here.cuh"

// Where a warp's exact top-k collects scores: a buffer of scores and blocks for each of its 16 rows, in shared memory.
//
// Of 64 columns each lane marks its values in a bit mask, without branches, and leaves all of them in shared memory
// ("parks" them, as registers cannot be indexed). The accumulators are free then: appending what is marked reads the
// parked values while the next product is under way. Scores that were marked without need leave when a buffer is cut.
namespace mobalab::kernels::cuda {

template <int Capacity>
class RowBuffers {
public:
    static constexpr int values = 32;        // of a lane, from 64 columns
    static constexpr int no_block = 0xffff;  // blocks take 16 bits; limits.cc sees to it that these are enough

private:
    static constexpr std::uint32_t score_pitch = (Capacity | 1) * 4,
                                   block_pitch = score_pitch / 2;  // odd: no conflicts
    static constexpr std::uint32_t scores_bytes = warp_rows * score_pitch, blocks_bytes = warp_rows * block_pitch;
    static constexpr std::uint32_t parked_bytes = 32 * values * 4;
    static constexpr std::uint32_t row1_bits = 0xccccccccu;  // value i is of the lane's second row when i % 4 >= 2

public:
    static constexpr int shared_bytes = parked_bytes + (scores_bytes + blocks_bytes + 127) / 128 * 128;  // of a warp

    __device__ __forceinline__ RowBuffers(unsigned char* shared, int lane)
        : parked_(ptx::shared_address(shared) + 16 * lane), lane_(lane) {
        row_ = computed_here(ptx::shared_address(shared) + row_scores(lane / 4));
    }

    __device__ __forceinline__ void clear() {
        filled_ = 0;
        mark(0);
    }

    /// Bit i: d[Begin + i] is not below the floor of its row. The sign of (score - floor) says that it is, shifted in
    /// from the left; equal numbers, +inf beside +inf and NaN give +0 or the positive NaN.
    template <int Begin = 0, int Count>
    static __device__ __forceinline__ std::uint32_t reaching(const float (&d)[Count], const float (&floor)[2]) {
        std::uint32_t part[4] = {};
#pragma unroll
        for (int i = 7; i >= 0; --i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float difference = d[Begin + 8 * j + i] - floor[i / 2 % 2];
                part[j] = __funnelshift_l(__float_as_uint(difference), part[j], 1);
            }
        }
        return ~(part[0] | (part[1] << 8) | (part[2] << 16) | (part[3] << 24));
    }
    /// The same and some more, in three quarters of the instructions: scores and floors are compared by their upper 16
    /// bits. Cutting bits off never turns the order of two numbers around, so none is missed; NaN reaches any floor.
    static __device__ __forceinline__ std::uint32_t roughly_reaching(const float (&d)[values],
                                                                     const float (&floor)[2]) {
        const __nv_bfloat162 rough[2] = {upper_halves(floor[0], floor[0]), upper_halves(floor[1], floor[1])};
        std::uint32_t part[4] = {};
#pragma unroll
        for (int i = 0; i < values / 2; ++i) {
            part[i % 4] |= __hgeu2_mask(upper_halves(d[i], d[i + 16]), rough[i / 2 % 2]) & (0x10001u << i);
        }
        return part[0] | part[1] | part[2] | part[3];
    }
    /// Bit i: value i is to be appended.
    __device__ __forceinline__ void mark(std::uint32_t mask) {
        mask_ = mask;
        marked_ = 4 * static_cast<std::uint32_t>(__popc(mask & ~row1_bits) | (__popc(mask & row1_bits) << 16));
    }
    template <int Begin = 0, int Count>
    __device__ __forceinline__ void park(const float (&d)[Count]) const {
#pragma unroll
        for (int i = 0; i < values; i += 4) {
            asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(parked_ + 128 * i), "f"(d[Begin + i]),
                         "f"(d[Begin + i + 1]), "f"(d[Begin + i + 2]), "f"(d[Begin + i + 3])
                         : "memory");
        }
    }
    /// Reads the parked values back.
    __device__ __forceinline__ void recall(float (&d)[values]) const {
#pragma unroll
        for (int i = 0; i < values; i += 4) {
            asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                         : "=f"(d[i]), "=f"(d[i + 1]), "=f"(d[i + 2]), "=f"(d[i + 3])
                         : "r"(parked_ + 128 * i)
                         : "memory");
        }
    }

    /// Whether there would be room if all lanes of a quad had marked as many as each: seldom wrong, and lanes need not
    /// ask each other.
    __device__ __forceinline__ bool surely_fit() const {
        return all_fit(filled_ + 4 * marked_);
    }
    /// Whether there is room for what is marked.
    __device__ __forceinline__ bool fit() const {
        return all_fit(filled_ + marked_in_rows());
    }
    /// The rows whose buffers have no room for it, as a bit mask.
    __device__ __forceinline__ unsigned full_rows() const {
        const std::uint32_t after = filled_ + marked_in_rows();
        const int of_mine = of_row(static_cast<int>(after & 0xffff), static_cast<int>(after >> 16), lane_);
        return __ballot_sync(full_warp, lane_ < warp_rows && of_mine > 4 * Capacity);
    }

    /// Puts what is marked into the buffers, which have room for it. Column c is block first_block + c.
    __device__ __forceinline__ void append(int first_block) {
        const std::uint32_t lane = computed_here(static_cast<std::uint32_t>(lane_));
        // Where the lane's go: behind those of the lanes of its quad before it, both rows in one integer.
        const std::uint32_t neighbour = __shfl_xor_sync(full_warp, marked_, 1);
        const std::uint32_t pair = marked_ + neighbour;
        const std::uint32_t other_pair = __shfl_xor_sync(full_warp, pair, 2);
        const std::uint32_t at = filled_ + lane % 2 * neighbour + lane / 2 % 2 * other_pair;
        filled_ += pair + other_pair;
        const std::uint32_t from = computed_here(parked_), base = from - 16 * lane;
        // A score at address a has its block at a / 2 plus what is the same for all.
        const std::uint32_t to_block = base / 2 + parked_bytes / 2 + scores_bytes;
        std::uint32_t to0 = row_ + at % 0x10000u;
        std::uint32_t to1 = row_ + 8 * score_pitch + at / 0x10000u;
        const std::uint32_t column = first_block + 2 * (lane % 4);
        for (std::uint32_t mask = mask_; mask != 0;) {
            const std::uint32_t i = highest_bit(mask), piece = i & 28;
            // Value 4 * j + e is column 8 * j + e of row 0, value 4 * j + 2 + e the same of row 1.
            asm volatile(
                "{\n"
                ".reg .pred second;\n"
                ".reg .f32 x;\n"
                ".reg .b32 to, bit;\n"
                "and.b32 bit, %3, 2;\n"
                "setp.ne.u32 second, bit, 0;\n"
                "ld.shared.f32 x, [%2];\n"
                "selp.b32 to, %1, %0, second;\n"
                "st.shared.f32 [to], x;\n"
                "shr.u32 to, to, 1;\n"
                "add.u32 to, to, %5;\n"
                "st.shared.u16 [to], %4;\n"
                "@!second add.u32 %0, %0, 4;\n"
                "@second add.u32 %1, %1, 4;\n"
                "}"
                : "+r"(to0), "+r"(to1)
                : "r"(from + 124 * piece + 4 * i), "r"(i), "h"(static_cast<std::uint16_t>(column + piece + (i & 29))),
                  "r"(to_block)
                : "memory");
            mask &= ~(1u << i);
        }
    }

    /// What the buffers of row lane / 4 and the one 8 below hold, of the lane's quad: 4 times the number of scores, in
    /// the low and the high half.
    __device__ __forceinline__ std::uint32_t filled() const {
        return filled_;
    }
    /// Forgets all but so many of the first in both buffers.
    __device__ __forceinline__ void keep(int of_row0, int of_row1) {
        filled_ = __vminu2(filled_, 4u * static_cast<std::uint32_t>(of_row0 | of_row1 << 16));
    }
    /// Addresses of a row's scores and of its blocks.
    __device__ __forceinline__ std::uint32_t scores(std::uint32_t row) const {
        return shared() + row_scores(row);
    }
    __device__ __forceinline__ std::uint32_t blocks(std::uint32_t row) const {
        return shared() + parked_bytes + scores_bytes + row * block_pitch;
    }

private:
    std::uint32_t parked_;  // address of the lane's copy of its values: i at 128 * (i / 4 * 4) + 4 * (i % 4)
    std::uint32_t row_;     // address of the scores of row lane / 4
    std::uint32_t filled_;
    std::uint32_t mask_;
    std::uint32_t marked_;  // as filled_: of the lane's marked scores
    int lane_;

    /// Address of the warp's shared memory: parked values, scores of the rows, their blocks.
    __device__ __forceinline__ std::uint32_t shared() const {
        return computed_here(parked_) - 16 * lane_;
    }
    static __device__ __forceinline__ std::uint32_t row_scores(std::uint32_t row) {
        return parked_bytes + row * score_pitch;
    }
    static __device__ __forceinline__ __nv_bfloat162 upper_halves(float low, float high) {
        const std::uint32_t halves = __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632);
        __nv_bfloat162 pair;
        memcpy(&pair, &halves, sizeof(pair));
        return pair;
    }
    static __device__ __forceinline__ std::uint32_t highest_bit(std::uint32_t mask) {
        std::uint32_t bit;
        asm("bfind.u32 %0, %1;" : "=r"(bit) : "r"(mask));
        return bit;
    }
    /// Whether no buffer would hold more than its capacity.
    static __device__ __forceinline__ bool all_fit(std::uint32_t filled) {
        constexpr std::uint32_t spare = 0x8000 - 4 * Capacity - 1;  // of a half, before its highest bit is set
        return !__any_sync(full_warp, ((filled + spare * 0x10001u) & 0x80008000u) != 0);
    }
    __device__ __forceinline__ std::uint32_t marked_in_rows() const {
        const std::uint32_t pair = marked_ + __shfl_xor_sync(full_warp, marked_, 1);
        return pair + __shfl_xor_sync(full_warp, pair, 2);
    }
};

__device__ __forceinline__ float load_score(std::uint32_t scores, int place) {
    float score;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(score) : "r"(scores + 4 * place) : "memory");
    return score;
}
__device__ __forceinline__ std::uint16_t load_block(std::uint32_t blocks, int place) {
    std::uint16_t block;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(block) : "r"(blocks + 2 * place) : "memory");
    return block;
}
__device__ __forceinline__ void store_entry(std::uint32_t scores, std::uint32_t blocks, int place, float score,
                                            std::uint16_t block) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(scores + 4 * place), "f"(score) : "memory");
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(blocks + 2 * place), "h"(block) : "memory");
}

}  // namespace mobalab::kernels::cuda
