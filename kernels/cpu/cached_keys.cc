#include "kernels/cpu/cached_keys.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace mobalab::kernels::cpu {
namespace {

/// The blocks of one sequence that are summarised again.
struct Touched {
    std::int64_t first_block = 0, blocks = 0;
    std::int64_t first_key = 0, keys = 0;
    std::int64_t before = 0;  ///< keys of block 0, which stand before them
};

Touched touched_blocks(const Problem& p, std::int64_t length, std::int64_t appended) {
    Touched t;
    if (length == 0) return t;
    t.first_block = std::max<std::int64_t>(length - appended, 0) / p.block_size;
    t.blocks = (length + p.block_size - 1) / p.block_size - t.first_block;
    t.first_key = t.first_block * p.block_size;
    t.keys = length - t.first_key;
    if (t.blocks == 0) t.keys = 0;
    if (t.blocks > 0 && t.first_block > 0 && p.centroids == Centroids::centred) t.before = p.block_size;
    return t;
}

/// [keys, heads_k, head_dim] of one sequence, contiguous.
std::byte* copy_keys(const Problem& p, const CachedKeys& k, std::int64_t sequence, std::int64_t first,
                     std::int64_t count, std::byte* to) {
    const std::size_t row = static_cast<std::size_t>(p.head_dim) * size_of(p.dtype);
    for (std::int64_t i = first; i < first + count; ++i) {
        for (std::int64_t head = 0; head < p.heads_k; ++head, to += row) std::memcpy(to, k.row(sequence, i, head), row);
    }
    return to;
}

}  // namespace

std::vector<Sequence> cached_sequences_of(const Problem& p, const Cache& cache) {
    std::vector<Sequence> sequences;
    for (std::int64_t b = 0; b < p.batch; ++b) {
        Sequence s;
        s.number = b;
        s.batch = b;
        s.block_size = p.block_size;
        s.queries = p.seqlen_q;
        s.keys = cache.lengths[b];
        s.blocks = (s.keys + p.block_size - 1) / p.block_size;
        s.q_begin = b * p.seqlen_q;
        s.k_begin = b * p.seqlen_k;
        s.block_begin = b * p.longest_blocks();
        sequences.push_back(s);
    }
    return sequences;
}

Status append_by_computing(ComputeCentroids compute, const Problem& p, const Cache& cache, ConstTensor k,
                           std::int64_t appended, void* centroids, const Execution& execution) {
    std::vector<Touched> touched;
    std::vector<std::int32_t> boundaries = {0};
    Problem packed = p;
    packed.seqlen_k = 0;
    for (std::int64_t b = 0; b < p.batch; ++b) {
        touched.push_back(touched_blocks(p, cache.lengths[b], appended));
        const std::int64_t keys = touched.back().before + touched.back().keys;
        boundaries.push_back(static_cast<std::int32_t>(boundaries.back() + keys));
        packed.seqlen_k = std::max(packed.seqlen_k, keys);
        packed.total_blocks += (keys + p.block_size - 1) / p.block_size;
    }
    packed.cu_seqlens_k = boundaries.data();
    packed.total_k = boundaries.back();
    if (packed.total_k == 0) return {};

    const std::int64_t token = p.heads_k * p.head_dim;
    std::vector<std::byte> keys(static_cast<std::size_t>(packed.total_k * token) * size_of(p.dtype));
    const CachedKeys rows(p, cache, k);
    std::byte* to = keys.data();
    for (std::int64_t b = 0; b < p.batch; ++b) {
        const Touched& t = touched[static_cast<std::size_t>(b)];
        to = copy_keys(p, rows, b, 0, t.before, to);
        to = copy_keys(p, rows, b, t.first_key, t.keys, to);
    }
    const std::size_t of_block =
        static_cast<std::size_t>(parts_of(p.scorer.kind) * p.scorer.sub_blocks * token) * size_of(p.centroid_dtype());
    std::vector<std::byte> summaries(static_cast<std::size_t>(packed.total_blocks) * of_block);
    const ConstTensor k_packed = {keys.data(), packed.total_k * token, token, p.head_dim};
    if (Status s = compute(packed, k_packed, summaries.data(), execution); !s.ok()) return s;

    const std::byte* from = summaries.data();
    for (std::int64_t b = 0; b < p.batch; ++b) {
        const Touched& t = touched[static_cast<std::size_t>(b)];
        from += static_cast<std::size_t>(t.before / p.block_size) * of_block;
        const std::size_t bytes = static_cast<std::size_t>(t.blocks) * of_block;
        const auto place = static_cast<std::size_t>(b * p.longest_blocks() + t.first_block) * of_block;
        if (bytes > 0) std::memcpy(static_cast<std::byte*>(centroids) + place, from, bytes);
        from += bytes;
    }
    return {};
}

}  // namespace mobalab::kernels::cpu
