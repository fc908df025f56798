// Bad input: one error that names the value, the rule and the nearest valid choice; good input passes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/kernels.h"

namespace mobalab::kernels {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class CheckTest : public testing::TestWithParam<Backend> {
protected:
    CheckTest() {
        p.seqlen_q = p.seqlen_k = 100;
        p.heads_q = 4;
        p.heads_k = 2;
        p.head_dim = 8;
        p.block_size = 16;
        p.topk = 3;
        execution.backend = GetParam();
        execution.threads = 1;
    }

    Status routed() { return route(p, {q.data()}, {k.data()}, selection.data(), scores.data(), execution); }

    void expect_invalid(const Status& status, const std::vector<std::string>& parts) {
        EXPECT_EQ(status.code, StatusCode::invalid_argument) << status.message;
        for (const std::string& part : parts) EXPECT_THAT(status.message, HasSubstr(part));
        EXPECT_THAT(status.message, HasSubstr("nearest valid choice"));
    }

    Problem p;
    Execution execution;
    std::vector<float> q = std::vector<float>(100 * 4 * 8, 1.0F), k = std::vector<float>(100 * 2 * 8, 1.0F), v = k,
                       out = q, lse = std::vector<float>(400), scores = std::vector<float>(800);
    std::vector<std::int32_t> selection = std::vector<std::int32_t>(800);
};

TEST_P(CheckTest, GoodInputPasses) {
    EXPECT_TRUE(routed().ok()) << routed().message;
}

TEST_P(CheckTest, EveryIntegerHasItsRange) {
    struct Mistake {
        std::function<void(Problem&)> make;
        std::vector<std::string> parts;
    };
    const std::vector<Mistake> mistakes = {
        {[](Problem& x) { x.batch = 0; }, {"batch = 0", "choice: 1"}},
        {[](Problem& x) { x.batch = std::numeric_limits<std::int64_t>::max(); }, {"batch = 9223372036854775807"}},
        {[](Problem& x) { x.seqlen_k = -1; }, {"seqlen_k = -1", "choice: 0"}},
        {[](Problem& x) { x.seqlen_q = -5; }, {"seqlen_q = -5", "choice: 0"}},
        {[](Problem& x) {
             x.batch = x.seqlen_q = 1 << 20;
             x.seqlen_k = 1;
         },
         {"batch * seqlen_q", "2147483647"}},
        {[](Problem& x) { x.heads_k = 0; }, {"heads_k = 0", "choice: 1"}},
        {[](Problem& x) { x.heads_q = 5; }, {"heads_q = 5", "multiple of heads_k = 2", "choice: 6"}},
        {[](Problem& x) { x.heads_q = 1; }, {"heads_q = 1", "multiple of heads_k = 2", "choice: 2"}},
        {[](Problem& x) { x.head_dim = 0; }, {"head_dim = 0", "choice: 1"}},
        {[](Problem& x) { x.block_size = 0; }, {"block_size = 0", "choice: 1"}},
        {[](Problem& x) { x.topk = 0; }, {"topk = 0", "choice: 1"}},
        {[](Problem& x) { x.scorer.kind = static_cast<ScorerKind>(9); }, {"scorer = 9", "4 (random)", "choice: 0"}},
        {[](Problem& x) { x.scorer.sub_blocks = 2; }, {"sub_blocks = 2", "must be 1 with scorer mean", "choice: 1"}},
        {[](Problem& x) {
             x.scorer = {ScorerKind::submean, 0};
         },
         {"sub_blocks = 0", "[1, 16]", "choice: 1"}},
        {[](Problem& x) {
             x.scorer = {ScorerKind::submean, 17};
         },
         {"sub_blocks = 17", "[1, 16]", "choice: 16"}},
        {[](Problem& x) {
             x.scorer = {ScorerKind::submean, 5};
         },
         {"sub_blocks = 5", "divide block_size = 16", ": 4"}},
        {[](Problem& x) {
             x.block_size = std::numeric_limits<std::int32_t>::max();
             x.scorer = {ScorerKind::submean, x.block_size};
             x.batch = 1 << 20;
         },
         {"centroids has", "sub-blocks 2251799812636672", "2^46"}},
        {[](Problem& x) { x.batch = x.seqlen_k = x.seqlen_q = 1 << 20; }, {"batch * seqlen_k", "2147483647"}},
        {[](Problem& x) {
             x.head_dim = 1 << 30;
             x.seqlen_k = 1 << 20;
         },
         {"head_dim", "2^46"}},
    };
    const Problem good = p;
    for (const Mistake& mistake : mistakes) {
        p = good;
        mistake.make(p);
        expect_invalid(routed(), mistake.parts);
    }
}

TEST_P(CheckTest, NullPointersAreNamed) {
    expect_invalid(route(p, {nullptr}, {k.data()}, selection.data(), nullptr, execution), {"q is null", "3200"});
    expect_invalid(route(p, {q.data()}, {nullptr}, selection.data(), nullptr, execution), {"k is null", "1600"});
    expect_invalid(route(p, {q.data()}, {k.data()}, nullptr, nullptr, execution), {"selection is null", "800"});
    expect_invalid(
        attention_forward(p, {q.data()}, {k.data()}, {nullptr}, selection.data(), {out.data()}, lse.data(), execution),
        {"v is null"});
    expect_invalid(
        attention_forward(p, {q.data()}, {k.data()}, {v.data()}, selection.data(), {out.data()}, nullptr, execution),
        {"lse is null", "400"});
    expect_invalid(compute_centroids(p, {k.data()}, nullptr, execution), {"centroids is null"});
    expect_invalid(key_conv_forward(p, {k.data()}, nullptr, 3, {out.data()}, execution), {"weight is null", "48"});
}

TEST_P(CheckTest, RandomKeepsNothing) {
    p.scorer.kind = ScorerKind::random;
    EXPECT_EQ(p.centroid_elements(), 0);
    EXPECT_TRUE(compute_centroids(p, {k.data()}, nullptr, execution).ok());
    EXPECT_TRUE(route_with_centroids(p, {q.data()}, nullptr, selection.data(), scores.data(), execution).ok());
    std::vector<float> convolved(k.size());
    EXPECT_TRUE(key_conv_centroids(p, {k.data()}, q.data(), 3, {convolved.data()}, nullptr, execution).ok());
    EXPECT_THAT(convolved, testing::Each(testing::Gt(1.0F)));
}

TEST_P(CheckTest, SummariesAreCounted) {
    p.scorer.kind = ScorerKind::quest;
    EXPECT_EQ(p.centroid_elements(), 2 * 7 * 2 * 8);
    expect_invalid(compute_centroids(p, {k.data()}, nullptr, execution), {"centroids is null", "224 elements"});
    p.scorer = {ScorerKind::submean, 4};
    EXPECT_EQ(p.centroid_elements(), 4 * 7 * 2 * 8);
    p.centroids = Centroids::fp32;
    EXPECT_EQ(p.centroid_dtype(), DataType::fp32);
    expect_invalid(route_with_centroids(p, {q.data()}, nullptr, selection.data(), nullptr, execution),
                   {"centroids is null", "448 elements"});
}

TEST_P(CheckTest, NoWorkNeedsNoPointers) {
    p.seqlen_q = 0;
    EXPECT_TRUE(route(p, {}, {k.data()}, nullptr, nullptr, execution).ok());
    EXPECT_TRUE(attention_forward(p, {}, {k.data()}, {v.data()}, nullptr, {}, nullptr, execution).ok());
    p.seqlen_k = 0;
    EXPECT_TRUE(compute_centroids(p, {}, nullptr, execution).ok());
    EXPECT_TRUE(key_conv_forward(p, {}, q.data(), 3, {}, execution).ok());
}

/// Gradients are written in full even where nothing contributes to them.
TEST_P(CheckTest, GradientsOfNothingAreZero) {
    p.seqlen_q = 0;
    std::vector<float> dk(k.size(), 7.0F);
    std::vector<float> dv(k.size(), 7.0F);
    EXPECT_TRUE(attention_backward(p, {}, {k.data()}, {v.data()}, {}, {}, nullptr, nullptr, {}, {dk.data()},
                                   {dv.data()}, execution)
                    .ok());
    EXPECT_THAT(dk, testing::Each(0.0F));
    EXPECT_THAT(dv, testing::Each(0.0F));
    p.seqlen_k = 0;
    std::vector<float> d_weight(48, 7.0F);
    EXPECT_TRUE(key_conv_backward(p, {}, q.data(), 3, {}, {}, d_weight.data(), execution).ok());
    EXPECT_THAT(d_weight, testing::Each(0.0F));
}

TEST_P(CheckTest, StridesAreNotNegative) {
    expect_invalid(route(p, {.data = q.data(), .stride_token = -32}, {k.data()}, selection.data(), nullptr, execution),
                   {"q.stride_token = -32", "at least 0", "choice: 0"});
    expect_invalid(route(p, {.data = q.data(), .stride_head = std::int64_t{1} << 60}, {k.data()}, selection.data(),
                         nullptr, execution),
                   {"q.stride_head = 1152921504606846976", "2^46"});
}

TEST_P(CheckTest, WidthAndThreads) {
    for (const int width : {0, 9}) {
        expect_invalid(key_conv_forward(p, {k.data()}, q.data(), width, {out.data()}, execution),
                       {"width = " + std::to_string(width), "[1, 8]"});
    }
    execution.threads = -1;
    expect_invalid(routed(), {"threads = -1", "choice: 0"});
}

TEST_P(CheckTest, VariableLengths) {
    std::array<std::int32_t, 4> cu_q = {0, 40, 40, 100};
    std::array<std::int32_t, 4> cu_k = {0, 40, 40, 100};
    p.batch = 3;
    p.cu_seqlens_q = cu_q.data();
    expect_invalid(routed(), {"cu_seqlens_q is set", "both or neither"});
    p.cu_seqlens_k = cu_k.data();
    p.total_q = p.total_k = 100;
    p.total_blocks = 3 + 4;
    EXPECT_TRUE(routed().ok()) << routed().message;

    p.total_blocks = 8;
    expect_invalid(routed(), {"total_blocks = 8", "choice: 7"});
    p.total_blocks = 100;
    expect_invalid(routed(), {"total_blocks = 100"});
    p.total_blocks = 7;

    p.seqlen_k = p.seqlen_q = 59;
    expect_invalid(routed(), {"sequence 2 has 60 tokens", "59", "raise seqlen to 60"});
    p.seqlen_k = p.seqlen_q = 100;

    cu_k = {0, 40, 39, 100};
    expect_invalid(routed(), {"cu_seqlens_k[2] = 39", "must not fall below cu_seqlens_k[1] = 40"});
    cu_k = {1, 40, 40, 100};
    expect_invalid(routed(), {"cu_seqlens_k[0] = 1"});
    cu_k = {0, 40, 40, 99};
    expect_invalid(routed(), {"cu_seqlens_k[3] = 99", "total of 100"});
    cu_k = {0, 30, 30, 100};  // more queries than keys
    p.total_blocks = 2 + 5;
    EXPECT_TRUE(routed().ok()) << routed().message;
}

std::string backend_name(const testing::TestParamInfo<Backend>& backend) {
    return backend.param == Backend::cpu ? "cpu" : "cpu_reference";
}

INSTANTIATE_TEST_SUITE_P(Cpu, CheckTest, testing::Values(Backend::cpu, Backend::cpu_reference), backend_name);

TEST(BackendAvailability, CpuAlwaysRuns) {
    EXPECT_TRUE(backend_available(Backend::cpu).ok());
    EXPECT_TRUE(backend_available(Backend::cpu_reference).ok());
    EXPECT_EQ(backend_available(static_cast<Backend>(7)).code, StatusCode::invalid_argument);
}

#ifndef MOBALAB_KERNELS_CUDA
TEST(BackendAvailability, CudaSaysWhyNot) {
    const Status status = backend_available(Backend::cuda);
    EXPECT_EQ(status.code, StatusCode::unsupported_device);
    EXPECT_THAT(status.message, AllOf(HasSubstr("built without CUDA"), HasSubstr("nearest valid choice")));
    Problem p;
    const Execution execution = {.backend = Backend::cuda};
    EXPECT_EQ(compute_centroids(p, {}, nullptr, execution).code, StatusCode::unsupported_device);
}
#endif

TEST(Supported, RefusesWhatACallWouldRefuse) {
    Problem p;
    p.seqlen_q = p.seqlen_k = 100;
    for (const Operation operation : {Operation::route_with_centroids, Operation::attention_backward}) {
        EXPECT_TRUE(supported(operation, p, Backend::cpu).ok());
        Problem none = p;
        none.topk = 0;
        const Status refused = supported(operation, none, Backend::cpu);
        EXPECT_EQ(refused.code, StatusCode::invalid_argument);
        EXPECT_THAT(refused.message, HasSubstr("topk = 0"));
    }
    p.scorer = {ScorerKind::quest, 2};  // attention looks at no scorer
    EXPECT_TRUE(supported(Operation::attention_backward, p, Backend::cpu).ok());
    EXPECT_EQ(supported(Operation::key_conv_centroids, p, Backend::cpu).code, StatusCode::invalid_argument);
    p.scorer = {};
    // fp32 is not for the CUDA kernels, built or not.
    EXPECT_EQ(supported(Operation::route, p, Backend::cuda).code, StatusCode::unsupported);
}

TEST(WorkspaceSize, CpuNeedsNone) {
    Problem p;
    p.seqlen_q = p.seqlen_k = 4096;
    EXPECT_EQ(workspace_size(Operation::moba_forward, p, Backend::cpu), 0U);
    EXPECT_EQ(workspace_size(Operation::attention_backward, p, Backend::cpu_reference), 0U);
}

}  // namespace
}  // namespace mobalab::kernels
