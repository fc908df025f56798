#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/cpu/convert.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cpu {

/// Where one sequence lies in the tensors, and how its query rows are aligned.
struct Sequence {
    std::int64_t number = 0;                                 ///< which one of the problem's
    std::int64_t q_begin = 0, k_begin = 0, block_begin = 0;  ///< tokens and blocks of the sequences before it
    std::int64_t batch = 0, q_first = 0, k_first = 0;        ///< its first tokens in the tensors
    std::int64_t queries = 0, keys = 0, blocks = 0;
    std::int64_t block_size = 1;
    bool causal = true;

    std::int64_t position(std::int64_t row) const { return row + keys - queries; }  ///< negative: before every key
    /// Of a causal problem.
    std::int64_t own_block(std::int64_t row) const { return std::max<std::int64_t>(position(row), 0) / block_size; }
    /// The blocks that a row may select are those below; 0 of a causal row that sees no key.
    std::int64_t candidates(std::int64_t row) const { return causal ? own_block(row) : blocks; }
    std::int64_t block_length(std::int64_t block) const { return std::min(block_size, keys - block * block_size); }
};

/// The keys of one sub-block: rows of its sequence; a count of 0 behind the last key.
struct KeySpan {
    std::int64_t first = 0, count = 0;
};

/// Sub-block `number` of a sequence whose blocks are divided into `per_block`.
inline KeySpan sub_block_keys(const Sequence& sequence, std::int64_t per_block, std::int64_t number) {
    const std::int64_t length = sequence.block_size / per_block;
    return {number * length, std::clamp<std::int64_t>(sequence.keys - number * length, 0, length)};
}

/// Tokens of one sequence in a tensor of queries or of keys: its rows are (row of the sequence, head).
template <typename Pointer>
BasicTensor<Pointer> queries_of(const Sequence& sequence, const BasicTensor<Pointer>& tensor, DataType dtype) {
    return from_token(tensor, dtype, sequence.batch, sequence.q_first);
}
template <typename Pointer>
BasicTensor<Pointer> keys_of(const Sequence& sequence, const BasicTensor<Pointer>& tensor, DataType dtype) {
    return from_token(tensor, dtype, sequence.batch, sequence.k_first);
}

/// One entry per sequence, empty ones included; none where there is no token at all.
std::vector<Sequence> sequences_of(const Problem& problem);
/// The same for operations on keys alone, which look at nothing of the queries: there are none.
std::vector<Sequence> key_sequences_of(const Problem& problem);

}  // namespace mobalab::kernels::cpu
