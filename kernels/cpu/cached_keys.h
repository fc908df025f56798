#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/sequences.h"
#include "kernels/decode.h"

namespace mobalab::kernels::cpu {

/// A tensor of keys or values of a cache, by sequence and position.
class CachedKeys {
public:
    CachedKeys(const Problem& problem, const Cache& cache, ConstTensor tensor)
        : tensor_(tensor),
          dtype_(problem.dtype),
          block_table_(cache.block_table),
          page_size_(cache.block_table == nullptr ? 1 : cache.page_size),
          pages_(cache.block_table == nullptr ? 0 : cache.pages_per_sequence(problem.seqlen_k)) {}

    /// Where its elements begin.
    const void* row(std::int64_t sequence, std::int64_t position, std::int64_t head) const {
        std::int64_t entry = sequence, token = position;
        if (block_table_ != nullptr) {
            entry = block_table_[sequence * pages_ + position / page_size_];
            token = position % page_size_;
        }
        return row_address(from_token(tensor_, dtype_, entry, token), dtype_, 0, head);
    }

private:
    ConstTensor tensor_;
    DataType dtype_;
    const std::int32_t* block_table_;
    std::int64_t page_size_, pages_;
};

/// The sequences of a decode problem, one an entry of the batch: blocks are numbered as for sequences of seqlen_k keys.
std::vector<Sequence> cached_sequences_of(const Problem& problem, const Cache& cache);

/// append_centroids() by way of a backend's compute_centroids(): over a packed copy of the keys of the blocks that hold
/// new ones, with block 0's before them where Centroids::centred needs it.
using ComputeCentroids = Status (*)(const Problem&, ConstTensor k, void* centroids, const Execution&);
Status append_by_computing(ComputeCentroids compute, const Problem& problem, const Cache& cache, ConstTensor k,
                           std::int64_t appended, void* centroids, const Execution& execution);

}  // namespace mobalab::kernels::cpu
