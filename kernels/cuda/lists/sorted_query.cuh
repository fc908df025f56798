#pragma once

#include <cstdint>

namespace mobalab::kernels::cuda {

/// The selected blocks of one query, ascending, in the registers of one thread.
template <int Width>
struct SortedQuery {
    static constexpr std::uint32_t none = 0xffffffffu;

    std::uint32_t block[Width];  // `none` last

    /// selected: the slots of the query. What is none of its candidates is left out.
    __device__ __forceinline__ SortedQuery(const std::uint32_t* selected, int slots, int candidates) {
#pragma unroll
        for (int i = 0; i < Width; ++i) {
            const std::uint32_t one = i < slots ? selected[i] : none;
            block[i] = one < static_cast<std::uint32_t>(candidates) ? one : none;
        }
        sort<1, 1>();
    }

    /// Calls visit(list, mask) for every list (of 2^shift blocks) that has selected blocks, in the order of the lists;
    /// the mask says which. A block that was named twice is there once.
    template <typename Visit>
    __device__ __forceinline__ void for_each_list(int shift, const Visit& visit) const {
        const std::uint32_t bit_of_block = (1u << shift) - 1;
        std::uint32_t mask = 0;
#pragma unroll
        for (int i = 0; i < Width; ++i) {
            const std::uint32_t list = block[i] >> shift;
            mask |= 1u << (block[i] & bit_of_block);
            const bool last = i + 1 == Width || block[i + 1 < Width ? i + 1 : i] >> shift != list;
            if (last && block[i] != none) visit(static_cast<int>(list), mask);
            if (last) mask = 0;
        }
    }

private:
    /// Batcher's odd-even merge sort: runs of Run sorted blocks are merged, in steps of Distance = Run, Run / 2,
    /// ..., 1.
    template <int Run, int Distance>
    __device__ __forceinline__ void sort() {
#pragma unroll
        for (int i = 0; i + Distance < Width; ++i) {
            const bool first = i >= Distance % Run && (i - Distance % Run) / Distance % 2 == 0;
            if (first && i / (2 * Run) == (i + Distance) / (2 * Run)) {
                const std::uint32_t low = min(block[i], block[i + Distance]);
                block[i + Distance] = max(block[i], block[i + Distance]);
                block[i] = low;
            }
        }
        if constexpr (Distance > 1) {
            sort<Run, Distance / 2>();
        } else if constexpr (2 * Run < Width) {
            sort<2 * Run, 2 * Run>();
        }
    }
};

}  // namespace mobalab::kernels::cuda
