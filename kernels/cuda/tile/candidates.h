#pragma once

#include <cstdint>
#include <limits>

#include "kernels/cuda/tile/block_divisor.h"
#include "kernels/cuda/tile/sequences.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// The blocks that a query may select: those below a number. If causal that is the block it stands in, else the number
/// of blocks, which is the one that it would stand in a block behind the last key.
class Candidates {
public:
    Candidates() = default;
    explicit Candidates(const Problem& problem)
        : block_(problem.block_size),
          behind_keys_(problem.causal ? std::numeric_limits<std::int32_t>::min() / 2
                                      : static_cast<std::int32_t>(problem.block_size) - 1) {}

    /// Of a row of the sequence; 0 of a causal one before every key.
    MOBALAB_HOST_DEVICE std::int32_t of_row(const Sequence& sequence, std::int32_t row) const {
        const std::int32_t position = larger(row + sequence.shift(), sequence.sk + behind_keys_);
        return block_.divide(larger(position, 0));
    }

private:
    static MOBALAB_HOST_DEVICE std::int32_t larger(std::int32_t a, std::int32_t b) { return a > b ? a : b; }

    BlockDivisor block_;
    std::int32_t behind_keys_ = 0;  ///< from the number of keys to a position; keeps it negative if causal
};

}  // namespace mobalab::kernels::cuda
