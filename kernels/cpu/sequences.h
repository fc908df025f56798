#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace mobalab::kernels::cpu {

/// Where one sequence lies in the tensors, and how its query rows are aligned.
struct Sequence {
    std::int64_t q_begin = 0, k_begin = 0, block_begin = 0;
    std::int64_t queries = 0, keys = 0, blocks = 0;
    std::int64_t block_size = 1;

    std::int64_t position(std::int64_t row) const { return row + keys - queries; }
    std::int64_t own_block(std::int64_t row) const { return position(row) / block_size; }  ///< also the candidates
    std::int64_t block_length(std::int64_t block) const { return std::min(block_size, keys - block * block_size); }
};

/// One entry a sequence; empty sequences included. Without cu_seqlens_q the queries of a variable-length problem are 0
/// (operations on keys alone).
std::vector<Sequence> sequences_of(const Problem& problem);

/// Every entry of `selection` is -1 or a candidate of its row, so that the kernels may index with it.
Status check_selection_entries(const Problem& problem, const std::int32_t* selection);

}  // namespace mobalab::kernels::cpu
