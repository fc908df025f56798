#pragma once

#include <cstdint>

namespace mobalab::kernels::cuda {

/// The selected blocks of one query, ascending, in the registers of one thread.
template <int Width>
class SortedQuery {
public:
    /// selected: the slots of the query. What is none of its candidates is left out.
    __device__ __forceinline__ SortedQuery(const std::uint32_t* selected, int slots, int candidates)
        : candidates_(static_cast<std::uint32_t>(candidates)) {
#pragma unroll
        for (int i = 0; i < Width; ++i) block_[i] = i < slots ? selected[i] : 0xffffffffu;
        sort<1, 1>();
    }

    /// Calls visit(list, mask) for every list (of 2^shift blocks) that has selected blocks, in the order of the lists;
    /// the mask says which. A block that was named twice is there once.
    template <typename Visit>
    __device__ __forceinline__ void for_each_list(int shift, const Visit& visit) const {
        if (shift == 0) {
#pragma unroll
            for (int i = 0; i < Width; ++i) {
                const bool last = i + 1 == Width || block_[i + 1 < Width ? i + 1 : i] != block_[i];
                if (block_[i] < candidates_ && last) visit(static_cast<int>(block_[i]), 1u);
            }
            return;
        }
        const std::uint32_t bit_of_block = (1u << shift) - 1;
        std::uint32_t mask = 0;
#pragma unroll
        for (int i = 0; i < Width; ++i) {
            const std::uint32_t list = block_[i] >> shift, after = block_[i + 1 < Width ? i + 1 : i];
            const bool last = i + 1 == Width || after >> shift != list || after >= candidates_;
            mask |= 1u << (block_[i] & bit_of_block);
            if (block_[i] < candidates_ && last) visit(static_cast<int>(list), mask);
            mask = last ? 0 : mask;
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
                const std::uint32_t low = min(block_[i], block_[i + Distance]);
                block_[i + Distance] = max(block_[i], block_[i + Distance]);
                block_[i] = low;
            }
        }
        if constexpr (Distance > 1) {
            sort<Run, Distance / 2>();
        } else if constexpr (2 * Run < Width) {
            sort<2 * Run, 2 * Run>();
        }
    }

    std::uint32_t block_[Width];  // ascending; no candidates come last
    std::uint32_t candidates_;
};

}  // namespace mobalab::kernels::cuda
