// What backend cuda refuses of a scorer, in one line that names the nearest valid choice; no device is needed.
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "kernels/kernels.h"

namespace mobalab::kernels {
namespace {

Problem problem(ScorerKind kind, std::int64_t sub_blocks) {
    Problem p;
    p.seqlen_q = p.seqlen_k = 4096;
    p.head_dim = 128;
    p.block_size = 128;
    p.dtype = DataType::bf16;
    p.scorer.kind = kind;
    p.scorer.sub_blocks = sub_blocks;
    return p;
}

constexpr Operation of_keys[] = {Operation::centroids, Operation::key_conv_centroids};
constexpr Operation routing[] = {Operation::route, Operation::route_with_centroids, Operation::moba_forward};

void expect_supported(Operation operation, const Problem& p) {
    const Status s = supported(operation, p, Backend::cuda);
    EXPECT_TRUE(s.ok()) << s.message;
}

void expect_refused(Operation operation, const Problem& p, const std::string& start, const std::string& nearest) {
    const Status s = supported(operation, p, Backend::cuda);
    EXPECT_EQ(s.code, StatusCode::unsupported) << s.message;
    EXPECT_EQ(s.message.rfind(start, 0), 0u) << s.message;
    const std::string end = "nearest valid choice: " + nearest;
    ASSERT_GE(s.message.size(), end.size()) << s.message;
    EXPECT_EQ(s.message.substr(s.message.size() - end.size()), end);
}

TEST(CudaScorerLimits, EveryScorerIsTaken) {
    for (const auto& p : {problem(ScorerKind::mean, 1), problem(ScorerKind::max, 1), problem(ScorerKind::quest, 1),
                          problem(ScorerKind::random, 1), problem(ScorerKind::submean, 1),
                          problem(ScorerKind::submean, 2), problem(ScorerKind::submean, 16)}) {
        for (const Operation operation : of_keys) expect_supported(operation, p);
        for (const Operation operation : routing) expect_supported(operation, p);
    }
}

TEST(CudaScorerLimits, SubBlocksUpToSixteen) {
    for (const Operation operation : {Operation::centroids, Operation::key_conv_centroids, Operation::route,
                                      Operation::route_with_centroids, Operation::moba_forward}) {
        expect_refused(operation, problem(ScorerKind::submean, 32), "sub_blocks = 32: ", "16");
    }
}

TEST(CudaScorerLimits, QuestTakesEveryHeadDim) {
    Problem p = problem(ScorerKind::quest, 1);
    p.head_dim = 256;
    for (const Operation operation : of_keys) expect_supported(operation, p);
    for (const Operation operation : routing) expect_supported(operation, p);
}

TEST(CudaScorerLimits, FullPrecisionIsForMeansOfBlocks) {
    for (const auto& taken :
         {problem(ScorerKind::mean, 1), problem(ScorerKind::submean, 1), problem(ScorerKind::random, 1)}) {
        Problem p = taken;
        p.centroids = Centroids::fp32;
        for (const Operation operation : routing) expect_supported(operation, p);
    }
    for (const auto& refused :
         {problem(ScorerKind::max, 1), problem(ScorerKind::quest, 1), problem(ScorerKind::submean, 2)}) {
        Problem p = refused;
        p.centroids = Centroids::fp32;
        for (const Operation operation : of_keys) expect_refused(operation, p, "centroids = fp32: ", "input_dtype");
        for (const Operation operation : routing) expect_refused(operation, p, "centroids = fp32: ", "input_dtype");
    }
}

/// The numbers of sub-blocks that are candidates fit 16 bits.
TEST(CudaScorerLimits, NumbersOfSubBlocksFitTheirBits) {
    Problem p = problem(ScorerKind::submean, 16);
    p.block_size = 16;
    p.seqlen_q = 40;
    p.seqlen_k = 65536;
    for (const Operation operation : routing) expect_supported(operation, p);
    p.seqlen_k = 65537;
    for (const Operation operation : routing) expect_refused(operation, p, "seqlen_k = 65537: ", "65536");
    for (const Operation operation : of_keys) expect_supported(operation, p);
    p.scorer.sub_blocks = 8;
    for (const Operation operation : routing) expect_supported(operation, p);
}

TEST(CudaScorerLimits, SlotsUpTo1023) {
    Problem p = problem(ScorerKind::mean, 1);
    p.block_size = 2;
    p.topk = 1024;
    for (const Operation operation : routing) expect_supported(operation, p);
    for (const Operation operation : {Operation::attention_forward, Operation::attention_backward}) {
        expect_supported(operation, p);
        Problem more = p;
        more.topk = 1025;
        expect_refused(operation, more, "topk = 1025: ", "1024");
        more.seqlen_k = more.seqlen_q = 2048;  // all of 1024 blocks
        expect_supported(operation, more);
    }
}

TEST(CudaScorerLimits, NotCausal) {
    Problem p = problem(ScorerKind::mean, 1);
    p.causal = false;
    for (const Operation operation : routing) expect_supported(operation, p);
    for (const Operation operation : {Operation::attention_forward, Operation::attention_backward}) {
        expect_supported(operation, p);
    }
    Problem many = p;
    many.block_size = 2;
    many.topk = 1023;
    for (const Operation operation : routing) expect_supported(operation, many);
    many.topk = 1024;
    for (const Operation operation : routing) expect_refused(operation, many, "topk = 1024: ", "1023");
    for (const ScorerKind kind : {ScorerKind::mean, ScorerKind::random}) {
        Problem longest = p;
        longest.scorer.kind = kind;
        longest.block_size = 1;
        longest.seqlen_k = 65535;
        for (const Operation operation : routing) expect_supported(operation, longest);
        longest.seqlen_k = 65536;
        for (const Operation operation : routing) expect_refused(operation, longest, "seqlen_k = 65536: ", "65535");
    }
    Problem divided = p;
    divided.scorer = {ScorerKind::submean, 16};
    for (const Operation operation : routing) expect_supported(operation, divided);
    divided.block_size = 16;
    divided.seqlen_k = 65520;  // 4095 blocks of 16 sub-blocks
    for (const Operation operation : routing) expect_supported(operation, divided);
    divided.seqlen_k = 65521;
    for (const Operation operation : routing) expect_refused(operation, divided, "seqlen_k = 65521: ", "65520");
    for (const Operation operation : of_keys) expect_supported(operation, divided);
}

TEST(CudaScorerLimits, WidthsOfValues) {
    Problem p = problem(ScorerKind::mean, 1);
    constexpr Operation attending[] = {Operation::attention_forward, Operation::moba_forward,
                                       Operation::attention_backward};
    for (const std::int64_t width : {8, 64, 72, 128, 256}) {
        p.head_dim_v = width;
        for (const Operation operation : attending) expect_supported(operation, p);
    }
    for (const auto& [width, nearest] : {std::pair<std::int64_t, std::string>{65, "64"}, {7, "8"}, {264, "256"}}) {
        p.head_dim_v = width;
        const std::string start = "head_dim_v = " + std::to_string(width) + ": ";
        for (const Operation operation : attending) expect_refused(operation, p, start, nearest);
        expect_supported(Operation::route, p);
    }
}

/// Whatever topk is, workspace stays near the size of what the caller holds.
TEST(CudaScorerLimits, WorkspaceOfManySlotsIsBounded) {
    Problem p = problem(ScorerKind::mean, 1);
    p.seqlen_q = p.seqlen_k = 65536;
    p.block_size = 64;
    p.topk = 1024;
    for (const auto& [heads_q, heads_k] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {16, 2}, {32, 8}}) {
        p.heads_q = heads_q;
        p.heads_k = heads_k;
        const auto gigabytes = [&](Operation operation) {
            return static_cast<double>(workspace_size(operation, p, Backend::cuda)) / 1e9;
        };
        EXPECT_GT(gigabytes(Operation::route), 0.0);
        EXPECT_LE(gigabytes(Operation::route), 0.5) << heads_q << " heads";
        EXPECT_LE(gigabytes(Operation::attention_forward), 4.0) << heads_q << " heads";
        EXPECT_LE(gigabytes(Operation::attention_backward), 5.0) << heads_q << " heads";
    }
}

TEST(CudaScorerLimits, AttentionAloneLooksAtNoScorer) {
    Problem p = problem(ScorerKind::quest, 1);
    p.head_dim = 256;
    p.centroids = Centroids::fp32;
    for (const Operation operation : {Operation::attention_forward, Operation::attention_backward,
                                      Operation::key_conv_forward, Operation::key_conv_backward}) {
        expect_supported(operation, p);
    }
}

}  // namespace
}  // namespace mobalab::kernels
