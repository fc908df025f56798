#include "kernels/cpu/sequences.h"

#include <fmt/format.h>

#include "kernels/check.h"

namespace mobalab::kernels::cpu {
namespace {

std::int64_t begin_of(const std::int32_t* cu, std::int64_t b, std::int64_t length) {
    return cu != nullptr ? cu[b] : b * length;
}

}  // namespace

std::vector<Sequence> sequences_of(const Problem& p) {
    const bool keys_only = p.cu_seqlens_k != nullptr && p.cu_seqlens_q == nullptr;
    const std::int64_t seqlen_q = keys_only ? 0 : p.seqlen_q;
    std::vector<Sequence> sequences;
    std::int64_t block_begin = 0;
    for (std::int64_t b = 0; b < p.batch; ++b) {
        Sequence s;
        s.block_size = p.block_size;
        s.q_begin = begin_of(p.cu_seqlens_q, b, seqlen_q);
        s.k_begin = begin_of(p.cu_seqlens_k, b, p.seqlen_k);
        s.queries = begin_of(p.cu_seqlens_q, b + 1, seqlen_q) - s.q_begin;
        s.keys = begin_of(p.cu_seqlens_k, b + 1, p.seqlen_k) - s.k_begin;
        s.blocks = (s.keys + p.block_size - 1) / p.block_size;
        s.block_begin = block_begin;
        block_begin += s.blocks;
        sequences.push_back(s);
    }
    return sequences;
}

Status check_selection_entries(const Problem& p, const std::int32_t* selection) {
    const std::int64_t routed = p.routed();
    const std::int64_t tokens = p.tokens_q();
    for (const Sequence& s : sequences_of(p)) {
        for (std::int64_t head = 0; head < p.heads_q; ++head) {
            for (std::int64_t row = 0; row < s.queries; ++row) {
                const std::int32_t* entries = selection + (head * tokens + s.q_begin + row) * routed;
                const std::int64_t candidates = s.own_block(row);
                for (std::int64_t slot = 0; slot < routed; ++slot) {
                    if (entries[slot] >= -1 && entries[slot] < candidates) continue;
                    return invalid(fmt::format(
                        "selection[head {}, query {}, slot {}] = {}: must be -1 or one of the {} blocks before the "
                        "query's own; nearest valid choice: {}",
                        head, s.q_begin + row, slot, entries[slot], candidates,
                        std::clamp<std::int64_t>(entries[slot], -1, candidates - 1)));
                }
            }
        }
    }
    return {};
}

}  // namespace mobalab::kernels::cpu
