// How lists and the forward pass over them are divided into chunks and windows; no device is needed.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>

#include "kernels/cuda/forward/attention.h"
#include "kernels/cuda/lists/lists.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr std::int64_t most_rows = std::numeric_limits<std::int32_t>::max();

struct Sizes {
    std::int64_t batch, tokens, heads_q, heads_k, head_dim, block_size, topk;
};

Problem problem(const Sizes& s) {
    Problem p;
    p.batch = s.batch;
    p.seqlen_q = p.seqlen_k = s.tokens;
    p.heads_q = s.heads_q;
    p.heads_k = s.heads_k;
    p.head_dim = s.head_dim;
    p.block_size = s.block_size;
    p.topk = s.topk;
    p.dtype = DataType::bf16;
    return p;
}

/// The same tokens as one packed batch, whose longest sequence may have as many as each had.
Problem packed(const Sizes& s) {
    static constexpr std::int32_t boundaries = 0;  // what it holds is not looked at
    Problem p = problem(s);
    p.cu_seqlens_q = p.cu_seqlens_k = &boundaries;
    p.total_q = p.total_k = s.batch * s.tokens;
    return p;
}

/// Every head and token is in one chunk.
void expect_all_of(const ListPlan& plan) {
    std::int64_t covered = 0;
    for (std::int32_t i = 0; i < plan.chunks(); ++i) {
        const ListChunk chunk = plan.chunk(i);
        EXPECT_GT(chunk.head_count, 0);
        EXPECT_LE(chunk.head_begin + chunk.head_count, plan.heads_q);
        EXPECT_LE(chunk.token_begin + chunk.token_count, plan.tokens_q);
        covered += std::int64_t{chunk.head_count} * chunk.token_count;
    }
    EXPECT_EQ(covered, std::int64_t{plan.heads_q} * plan.tokens_q);
}

TEST(ListPlan, AChunkHasNoMoreRowsThanAskedForInWindowsToo) {
    constexpr unsigned seed = 71;
    constexpr std::int64_t least_tokens = 1024;  // of a chunk of one head, whatever is asked for
    std::mt19937 engine(seed);
    const auto one_of = [&](auto... values) {
        const std::int64_t all[] = {values...};
        return all[std::uniform_int_distribution<std::size_t>(0, sizeof...(values) - 1)(engine)];
    };
    for (int i = 0; i < 20000; ++i) {
        const std::int64_t heads_k = one_of(1, 2, 3, 8);
        const Sizes s = {
            one_of(1, 2, 7, 64),        one_of(1, 100, 1024, 4000, 16384), heads_k * one_of(1, 3, 4, 16), heads_k, 64,
            one_of(1, 16, 48, 64, 200), one_of(1, 2, 8, 64, 300)};
        const Problem p = i % 2 == 0 ? problem(s) : packed(s);
        ListOptions options;
        options.max_rows = std::int64_t{1} << one_of(12, 16, 20, 24, 27, 30);
        options.window = one_of(0, 100, 1000, 8192, 30000);
        options.shared_list = one_of(64, 128);
        const ListPlan plan = make_list_plan(p, options);
        SCOPED_TRACE("problem " + std::to_string(i) + " of seed " + std::to_string(seed));
        ASSERT_NO_FATAL_FAILURE(expect_all_of(plan));
        ASSERT_TRUE(plan.rows <= options.max_rows ||
                    (plan.heads_per_chunk == 1 && plan.tokens_per_chunk <= least_tokens))
            << plan.rows << " rows, asked for " << options.max_rows;
        ASSERT_EQ(plan.rows, plan.rows_per_head * plan.heads_per_window * plan.windows());
    }
}

TEST(ForwardPlan, RowsOfLargeProblemsFitTheirNumbers) {
    for (const Sizes& s : {Sizes{96, 8192, 32, 8, 128, 64, 8}, Sizes{64, 16384, 32, 8, 128, 64, 8},
                           Sizes{128, 8192, 32, 8, 128, 128, 8}, Sizes{1, 1048576, 128, 1, 64, 64, 13},
                           Sizes{1, 1048576, 96, 1, 64, 64, 13}, Sizes{4096, 256, 64, 8, 128, 16, 16},
                           Sizes{2, 1048576, 32, 8, 128, 16, 64}, Sizes{16, 65536, 64, 8, 128, 64, 300}}) {
        for (const Problem& p : {problem(s), packed(s)}) {
            const ForwardPlan plan = make_forward_plan(p, hopper_forward_shape(p));
            SCOPED_TRACE(std::to_string(s.batch) + " x " + std::to_string(s.tokens) + " tokens, B " +
                         std::to_string(s.block_size) + (p.cu_seqlens_q != nullptr ? ", packed" : ""));
            EXPECT_LE(plan.lists.rows, most_rows);
            EXPECT_GT(plan.lists.rows, 0);
            expect_all_of(plan.lists);
        }
    }
}

/// Nobody knows on the host where its sequences end, so every window has lists for all of them; windows are as long as
/// that asks for.
TEST(ForwardPlan, APackedBatchTakesNotMuchMoreThanTheSameSequencesSideBySide) {
    for (const Sizes& s : {Sizes{64, 8192, 32, 8, 128, 64, 8}, Sizes{96, 8192, 32, 8, 128, 64, 8},
                           Sizes{512, 1024, 16, 16, 128, 128, 8}, Sizes{32, 2048, 8, 2, 64, 16, 16}}) {
        const Problem side_by_side = problem(s), one_row = packed(s);
        const ForwardPlan plan = make_forward_plan(one_row, hopper_forward_shape(one_row));
        SCOPED_TRACE(std::to_string(s.batch) + " x " + std::to_string(s.tokens) + " tokens, B " +
                     std::to_string(s.block_size));
        EXPECT_LE(static_cast<double>(forward_workspace(one_row, hopper_forward_shape(one_row))),
                  2.0 * static_cast<double>(forward_workspace(side_by_side, hopper_forward_shape(side_by_side))));
        EXPECT_LE(plan.lists.rows, 3 * one_row.tokens_q() * one_row.heads_q * one_row.routed());
    }
}

}  // namespace
}  // namespace mobalab::kernels::cuda
