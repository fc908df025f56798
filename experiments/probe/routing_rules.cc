#include "experiments/probe/routing_rules.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <vector>

#include "sim/streams/philox.h"

namespace mobalab::experiments {
namespace {

/// Score of block `block` for queries along axis `axis`.
using Levels = std::function<float(std::int64_t block, std::int64_t axis)>;

// A short sequence of the same d, B and dtype: a few more whole blocks than are chosen and a partial last one.
ProbeShape short_shape(const ProbeShape& shape, std::int64_t topk) {
    ProbeShape result = shape;
    const std::int64_t whole = std::min(shape.last_candidates(), 2 * topk + 8);
    result.seq_len = whole * shape.block_size + (shape.block_size + 1) / 2;
    return result;
}

std::vector<float> keys_with_levels(const ProbeShape& shape, const Levels& level) {
    std::vector<float> keys(static_cast<std::size_t>(shape.seq_len * shape.head_dim));
    for (std::int64_t position = 0; position < shape.seq_len; ++position) {
        for (std::int64_t axis = 0; axis < shape.head_dim; ++axis) {
            keys[static_cast<std::size_t>(position * shape.head_dim + axis)] = level(position / shape.block_size, axis);
        }
    }
    return keys;
}

// The rule itself: best score first, the higher index first among equals, -1 when the candidates run out.
std::vector<std::int32_t> selection_by_rule(std::int64_t candidates, std::int64_t axis, std::int64_t topk,
                                            const Levels& level) {
    std::vector<std::int32_t> blocks(static_cast<std::size_t>(candidates));
    std::iota(blocks.rbegin(), blocks.rend(), 0);
    std::stable_sort(blocks.begin(), blocks.end(),
                     [&](std::int32_t a, std::int32_t b) { return level(a, axis) > level(b, axis); });
    blocks.resize(static_cast<std::size_t>(topk - 1), -1);
    return blocks;
}

RuleCheck check(const ProbeShape& shape, const std::vector<QueryChunk>& chunks, std::int64_t topk,
                const KernelUnderTest& kernel, const Levels& level) {
    const std::int64_t rows = std::transform_reduce(chunks.begin(), chunks.end(), std::int64_t{0}, std::plus<>(),
                                                    [](const QueryChunk& chunk) { return chunk.rows; });
    std::vector<float> queries(static_cast<std::size_t>(rows * shape.head_dim), 0.0F);
    for (std::int64_t row = 0; row < rows; ++row) {
        queries[static_cast<std::size_t>(row * shape.head_dim + row % shape.head_dim)] = 1.0F;
    }
    const std::vector<float> keys = keys_with_levels(shape, level);
    std::vector<std::int32_t> selection(static_cast<std::size_t>(rows * (topk - 1)), -2);
    kernel.load(shape, keys)->route(chunks, queries, topk, selection);

    RuleCheck result{.rows = rows};
    auto seen = selection.begin();
    std::int64_t row = 0;
    for (const QueryChunk& chunk : chunks) {
        for (std::int64_t i = 0; i < chunk.rows; ++i, ++row, seen += topk - 1) {
            const std::int64_t candidates = (chunk.start + i) / shape.block_size;
            const auto expected = selection_by_rule(candidates, row % shape.head_dim, topk, level);
            result.violations += std::equal(expected.begin(), expected.end(), seen) ? 0 : 1;
        }
    }
    return result;
}

}  // namespace

bool follows_scores(const kernels::Scorer& scorer) {
    const kernels::ScorerDefinition* definition = kernels::find_scorer(scorer.kind);
    return definition != nullptr && definition->parts > 0;
}

RuleCheck check_tie_rule(const ProbeShape& shape, std::int64_t topk, const KernelUnderTest& kernel) {
    const ProbeShape small = short_shape(shape, topk);
    const std::int64_t own_block = small.last_candidates();
    const Levels level = [&](std::int64_t block, std::int64_t axis) {
        const auto word = sim::philox_block({}, static_cast<std::uint64_t>(axis), static_cast<std::uint64_t>(block))[0];
        return block == own_block ? 0.0F : 0.25F * static_cast<float>(word >> 30U);
    };
    const std::int64_t last_block_rows = small.seq_len - own_block * small.block_size;
    std::vector<QueryChunk> chunks;  // all in the last block; enough of them that 64 axes are asked
    for (std::int64_t rows = 0; rows < std::min<std::int64_t>(64, small.head_dim); rows += last_block_rows) {
        chunks.push_back({own_block * small.block_size, last_block_rows});
    }
    return check(small, chunks, topk, kernel, level);
}

RuleCheck check_candidate_rule(const ProbeShape& shape, std::int64_t topk, const KernelUnderTest& kernel) {
    const ProbeShape small = short_shape(shape, topk);
    const Levels level = [](std::int64_t block, std::int64_t) { return static_cast<float>(block + 1); };
    std::vector<QueryChunk> chunks{{0, 1}};
    for (std::int64_t block = 1; block <= small.last_candidates(); ++block) {
        chunks.push_back({block * small.block_size - 1, 2});
    }
    chunks.push_back({small.seq_len - 1, 1});
    return check(small, chunks, topk, kernel, level);
}

}  // namespace mobalab::experiments
