#include "kernels/cpu/sequences.h"

namespace mobalab::kernels::cpu {
namespace {

std::int64_t begin_of(const std::int32_t* cu, std::int64_t b, std::int64_t length) {
    return cu != nullptr ? cu[b] : b * length;
}

}  // namespace

std::vector<Sequence> sequences_of(const Problem& p) {
    const bool packed = p.cu_seqlens_k != nullptr;
    const std::int64_t block_size = std::max<std::int64_t>(p.block_size, 1);  // operations without blocks have any
    std::vector<Sequence> sequences;
    if (p.tokens_k() == 0 && p.tokens_q() == 0) return sequences;
    std::int64_t block_begin = 0;
    for (std::int64_t b = 0; b < p.batch; ++b) {
        Sequence s;
        s.number = b;
        s.block_size = block_size;
        s.causal = p.causal;
        s.q_begin = begin_of(p.cu_seqlens_q, b, p.seqlen_q);
        s.k_begin = begin_of(p.cu_seqlens_k, b, p.seqlen_k);
        s.queries = begin_of(p.cu_seqlens_q, b + 1, p.seqlen_q) - s.q_begin;
        s.keys = begin_of(p.cu_seqlens_k, b + 1, p.seqlen_k) - s.k_begin;
        s.batch = packed ? 0 : b;
        s.q_first = packed ? s.q_begin : 0;
        s.k_first = packed ? s.k_begin : 0;
        s.blocks = (s.keys + block_size - 1) / block_size;
        s.block_begin = block_begin;
        block_begin += s.blocks;
        sequences.push_back(s);
    }
    return sequences;
}

std::vector<Sequence> key_sequences_of(const Problem& problem) {
    Problem keys = problem;
    keys.seqlen_q = 0;
    keys.cu_seqlens_q = nullptr;
    return sequences_of(keys);
}

}  // namespace mobalab::kernels::cpu
