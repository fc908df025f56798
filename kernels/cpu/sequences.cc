#include "kernels/cpu/sequences.h"

namespace mobalab::kernels::cpu {
namespace {

std::int64_t begin_of(const std::int32_t* cu, std::int64_t b, std::int64_t length) {
    return cu != nullptr ? cu[b] : b * length;
}

}  // namespace

std::vector<Sequence> sequences_of(const Problem& p) {
    const bool packed = p.cu_seqlens_k != nullptr;
    const bool keys_only = packed && p.cu_seqlens_q == nullptr;
    const std::int64_t seqlen_q = keys_only ? 0 : p.seqlen_q;
    std::vector<Sequence> sequences;
    std::int64_t block_begin = 0;
    for (std::int64_t b = 0; b < p.batch; ++b) {
        Sequence s;
        s.block_size = p.block_size;
        s.q_begin = begin_of(packed ? p.cu_seqlens_q : nullptr, b, seqlen_q);
        s.k_begin = begin_of(p.cu_seqlens_k, b, p.seqlen_k);
        s.queries = begin_of(packed ? p.cu_seqlens_q : nullptr, b + 1, seqlen_q) - s.q_begin;
        s.keys = begin_of(p.cu_seqlens_k, b + 1, p.seqlen_k) - s.k_begin;
        s.batch = packed ? 0 : b;
        s.q_first = packed ? s.q_begin : 0;
        s.k_first = packed ? s.k_begin : 0;
        s.blocks = (s.keys + p.block_size - 1) / p.block_size;
        s.block_begin = block_begin;
        block_begin += s.blocks;
        sequences.push_back(s);
    }
    return sequences;
}

}  // namespace mobalab::kernels::cpu
