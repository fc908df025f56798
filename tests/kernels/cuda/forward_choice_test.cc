// Which algorithm attention_forward takes on the Hopper path, and with what runs of keys; no device is needed.
#include "kernels/cuda/forward/forward_choice.h"

#include <gtest/gtest.h>

#include "kernels/cuda/forward/attention.h"

namespace mobalab::kernels::cuda {
namespace {

Problem problem(std::int64_t tokens, std::int64_t block_size, std::int64_t topk, std::int64_t head_dim = 128) {
    Problem p;
    p.seqlen_q = p.seqlen_k = tokens;
    p.heads_q = p.heads_k = 8;
    p.head_dim = head_dim;
    p.block_size = block_size;
    p.topk = topk;
    p.dtype = DataType::bf16;
    return p;
}

ForwardAlgorithm chosen(const Problem& p) {
    return choose_forward(p, CudaPath::hopper, {});
}

TEST(ForwardChoice, QueriesTakeTheShapesThatTheirKernelsAreFor) {
    for (const std::int64_t block_size : {16, 32, 64, 128, 256, 384, 1024, 16384}) {
        for (const std::int64_t head_dim : {8, 64, 72, 128}) {
            EXPECT_TRUE(queries_can(problem(4096, block_size, 8, head_dim))) << block_size << ", " << head_dim;
        }
    }
    for (const std::int64_t block_size : {1, 8, 24, 48, 80, 96, 100, 130, 192, 1000}) {
        EXPECT_FALSE(queries_can(problem(4096, block_size, 8))) << block_size;
    }
    EXPECT_FALSE(queries_can(problem(4096, 128, 8, 136)));
    Problem wide_values = problem(4096, 128, 8, 64);
    wide_values.head_dim_v = 256;
    EXPECT_FALSE(queries_can(wide_values));
    EXPECT_FALSE(queries_can(problem(0, 128, 8)));
}

/// Where a mask of so many blocks has no place in shared memory, whatever is asked for.
TEST(ForwardChoice, LongSequencesGoByLists) {
    EXPECT_TRUE(queries_can(problem(60000, 128, 8)));
    EXPECT_TRUE(queries_can(problem(60000, 16, 8)));
    for (const std::int64_t block_size : {16, 64, 128}) {
        const Problem p = problem(80000, block_size, 8);
        EXPECT_FALSE(queries_can(p)) << block_size;
        EXPECT_EQ(choose_forward(p, CudaPath::hopper, ForwardAlgorithm::queries), ForwardAlgorithm::lists);
    }
    EXPECT_TRUE(queries_can(problem(600000, 4096, 8)));
}

TEST(ForwardChoice, WhatIsAskedForIsTakenWhereItCanBe) {
    for (const std::int64_t tokens : {1, 1000, 40000}) {
        const Problem p = problem(tokens, 128, 8);
        EXPECT_EQ(choose_forward(p, CudaPath::hopper, ForwardAlgorithm::queries), ForwardAlgorithm::queries);
        EXPECT_EQ(choose_forward(p, CudaPath::hopper, ForwardAlgorithm::lists), ForwardAlgorithm::lists);
        for (const auto asked : {std::optional<ForwardAlgorithm>(), std::optional(ForwardAlgorithm::queries)}) {
            EXPECT_EQ(choose_forward(p, CudaPath::portable, asked), ForwardAlgorithm::lists);
        }
    }
    EXPECT_EQ(choose_forward(problem(1000, 48, 8), CudaPath::hopper, ForwardAlgorithm::queries),
              ForwardAlgorithm::lists);
}

/// The shapes of the measurements in tests/perf/NOTES_cuda_attention.md, by the faster of the two.
TEST(ForwardChoice, TheFasterOneIsChosen) {
    for (const std::int64_t tokens : {128, 1024, 2048, 4096}) {
        EXPECT_EQ(chosen(problem(tokens, 128, 8)), ForwardAlgorithm::queries) << tokens;
        EXPECT_EQ(chosen(problem(tokens, 64, 8)), ForwardAlgorithm::queries) << tokens;
    }
    for (const std::int64_t tokens : {8192, 16384, 32768, 65536}) {
        EXPECT_EQ(chosen(problem(tokens, 128, 8)), ForwardAlgorithm::lists) << tokens;
        EXPECT_EQ(chosen(problem(tokens, 64, 8)), ForwardAlgorithm::lists) << tokens;
    }
    for (Problem p : {problem(4096, 128, 8), problem(8192, 512, 8), problem(8192, 16, 64), problem(16384, 16, 64)}) {
        p.batch = 2;
        p.heads_q = p.heads_k = 16;
        EXPECT_EQ(chosen(p), ForwardAlgorithm::queries) << p.seqlen_q;
    }
    for (const std::int64_t block_size : {16, 32, 64}) {  // recorded_routing.py
        Problem p = problem(4096, block_size, 1024 / block_size, 64);
        p.batch = 16;
        p.seqlen_q = 1536;
        p.heads_q = 9;
        p.heads_k = 3;
        EXPECT_EQ(chosen(p), ForwardAlgorithm::queries) << block_size;
    }
    for (Problem p : {problem(8192, 128, 8), problem(8192, 256, 8), problem(32768, 16, 64)}) {
        p.batch = 2;
        p.heads_q = p.heads_k = 16;
        EXPECT_EQ(chosen(p), ForwardAlgorithm::lists) << p.seqlen_q;
    }
}

std::int64_t run_of(const Problem& p) {
    return hopper_forward_shape(p).keys_per_run;
}
std::int64_t list_of(const Problem& p) {
    return keys_of_list(p.block_size, hopper_forward_shape(p).shared_list);
}

TEST(ForwardShape, SmallBlocksOfKnownShapesHaveShortRuns) {
    for (const std::int64_t block_size : {16, 32, 64}) {
        for (const std::int64_t head_dim : {32, 64, 96, 128}) {
            const Problem p = problem(65536, block_size, 8, head_dim);
            EXPECT_EQ(run_of(p), 64) << block_size << ", " << head_dim;
            EXPECT_EQ(list_of(p), 64) << block_size << ", " << head_dim;
        }
    }
    EXPECT_EQ(run_of(problem(65536, 128, 8)), 128);
    EXPECT_EQ(list_of(problem(65536, 128, 8)), 128);
    EXPECT_EQ(run_of(problem(65536, 256, 8)), 256);
}

/// Kernels that learn the shape at run time have runs of 128 keys alone.
TEST(ForwardShape, OtherShapesHaveRunsOf128Keys) {
    Problem narrow_values = problem(65536, 64, 8), not_causal = problem(65536, 64, 8);
    narrow_values.head_dim_v = 64;
    not_causal.causal = false;
    for (const Problem& p : {problem(65536, 8, 8), problem(65536, 48, 8), problem(65536, 64, 8, 112),
                             problem(65536, 64, 8, 256), narrow_values, not_causal}) {
        EXPECT_EQ(run_of(p), 128) << p.block_size << ", " << p.head_dim;
        EXPECT_GT(list_of(p), 48) << p.block_size << ", " << p.head_dim;
    }
}

/// A row tile has one multiprocessor: few queries before many keys are for lists, which share them out.
TEST(ForwardChoice, FewQueriesOfManyKeysGoByLists) {
    Problem p = problem(32768, 16, 64);
    p.seqlen_q = 16;
    EXPECT_EQ(chosen(p), ForwardAlgorithm::lists);
}

/// Thread blocks are numbered in 32 bits, and those of short sequences that do nothing take time.
TEST(ForwardChoice, ManyThreadBlocksGoByLists) {
    Problem p = problem(1, 128, 8);
    p.batch = p.heads_q = p.heads_k = 65535;
    EXPECT_FALSE(queries_can(p));
    const std::int32_t boundaries = 0;  // what it holds is not looked at
    p = problem(4096, 128, 8);
    p.batch = 1000;
    p.cu_seqlens_q = p.cu_seqlens_k = &boundaries;
    p.total_q = p.total_k = p.batch * 4096;
    EXPECT_EQ(chosen(p), ForwardAlgorithm::queries);
    p.total_q = p.total_k = p.batch * 100;
    EXPECT_EQ(chosen(p), ForwardAlgorithm::lists);
}

}  // namespace
}  // namespace mobalab::kernels::cuda
