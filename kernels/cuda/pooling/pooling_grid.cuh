#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/cuda/tile/elements.cuh"
#include "kernels/cuda/tile/rows.h"
#include "kernels/cuda/tile/sequences.h"

// How passes over the keys are dealt to threads: a thread block takes one head and a few neighbouring blocks of keys,
// a thread 8 channels (16 bytes) of a run of consecutive keys. With a scorer that divides blocks, "block" means
// sub-block here: each is summarised alone, and a sequence has r times as many as it has blocks.
namespace mobalab::kernels::cuda {

inline constexpr int pooling_threads = 256;  // of a thread block, at most

struct PoolingGrid {
    Sequences sequences;
    const void* k;
    RowStrides stride;
    std::int32_t heads_k, head_dim, block_size;
    std::int32_t sub_blocks;        // r
    std::int32_t parts;             // that are kept of a block, one behind the other
    std::int32_t blocks_max;        // of the longest sequence
    std::int32_t chunks;            // 16-byte chunks of a row
    std::int32_t run;               // keys of a thread; the last one of a block may have fewer
    std::int32_t split;             // threads that share one chunk column of a block
    std::int32_t blocks_per_group;  // blocks of one thread block
    std::int32_t groups;            // thread blocks per sequence and head
    const std::int32_t* block_base;
    std::int32_t total_blocks;

    unsigned thread_blocks() const { return static_cast<unsigned>(sequences.batch * groups * heads_k); }
    int threads() const { return chunks * split * blocks_per_group; }
    /// Elements of a partial result of every thread.
    std::size_t partial_elements() const { return static_cast<std::size_t>(blocks_per_group) * split * head_dim; }
};

/// threads: of a thread block, or more where a block of keys needs them.
inline PoolingGrid make_pooling_grid(const Problem& problem, ConstTensor k, const std::int32_t* block_base,
                                     int threads) {
    PoolingGrid p{};
    p.sequences = make_sequences(problem);
    p.k = k.data;
    p.stride = strides_of(k);
    p.heads_k = static_cast<std::int32_t>(problem.heads_k);
    p.head_dim = static_cast<std::int32_t>(problem.head_dim);
    p.block_size = static_cast<std::int32_t>(problem.block_size / problem.scorer.sub_blocks);
    p.sub_blocks = static_cast<std::int32_t>(problem.scorer.sub_blocks);
    p.parts = find_scorer(problem.scorer.kind)->parts;
    p.blocks_max = static_cast<std::int32_t>(problem.longest_blocks() * problem.scorer.sub_blocks);
    p.chunks = p.head_dim / chunk_elements;
    const std::int32_t most_split = pooling_threads / p.chunks;
    const auto run = static_cast<unsigned>(std::max(16, (p.block_size + most_split - 1) / most_split));
    p.run = std::min(static_cast<std::int32_t>(std::bit_ceil(run)), p.block_size);
    p.split = (p.block_size + p.run - 1) / p.run;
    p.blocks_per_group = std::max(1, threads / (p.chunks * p.split));
    p.groups = (p.blocks_max + p.blocks_per_group - 1) / p.blocks_per_group;
    p.block_base = block_base;
    p.total_blocks = static_cast<std::int32_t>(problem.sub_blocks());
    return p;
}

#ifdef __CUDACC__
/// What one thread does. Divided: blocks may be parts of larger ones, and empty.
template <bool Divided>
struct PoolingWork {
    Sequence sequence;
    int b, head;
    int block0;       ///< first block of the thread block
    int blocks;       ///< of the sequence: there is no work where block0 is not below
    int local;        ///< the thread's block, from block0
    int share;        ///< its run in that block
    int chunk;        ///< its channels
    int first, last;  ///< its keys of the sequence

    __device__ __forceinline__ explicit PoolingWork(const PoolingGrid& p) {
        std::int32_t index = static_cast<std::int32_t>(blockIdx.x);
        head = index % p.heads_k;  // heads innermost: neighbours share DRAM pages
        index /= p.heads_k;
        const int group = index % p.groups;
        b = index / p.groups;
        sequence = p.sequences.at(b);
        blocks = blocks_of(p, sequence.sk);
        // Not more than the output holds, whatever cu_seqlens says.
        if (p.block_base != nullptr) blocks = min(blocks, p.total_blocks - p.block_base[b]);
        block0 = group * p.blocks_per_group;

        const int per_block = p.chunks * p.split;
        local = static_cast<int>(threadIdx.x) / per_block;
        const int within = static_cast<int>(threadIdx.x) % per_block;
        share = within / p.chunks;
        chunk = within % p.chunks;
        const int block_begin = (block0 + local) * p.block_size;
        first = block_begin + share * p.run;
        last = min(min(first + p.run, block_begin + p.block_size), sequence.sk);
    }

    /// Keys of a block; may be none where Divided.
    __device__ __forceinline__ int keys(const PoolingGrid& p, int block) const {
        const int count = min(p.block_size, sequence.sk - block * p.block_size);
        return Divided ? max(count, 0) : count;
    }
    /// Index of an element of a block's first part in [blocks, parts, heads_k, head_dim].
    __device__ __forceinline__ std::int64_t at(const PoolingGrid& p, int block, int element) const {
        const std::int64_t base =
            p.block_base != nullptr ? p.block_base[b] : static_cast<std::int64_t>(b) * p.blocks_max;
        return ((base + block) * p.parts * p.heads_k + head) * p.head_dim + element;
    }

private:
    static __device__ __forceinline__ int blocks_of(const PoolingGrid& p, int keys) {
        if constexpr (!Divided) return (keys + p.block_size - 1) / p.block_size;
        const int whole = p.block_size * p.sub_blocks;
        return (keys + whole - 1) / whole * p.sub_blocks;
    }
};
#endif

}  // namespace mobalab::kernels::cuda
