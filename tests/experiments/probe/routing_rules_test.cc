#include "experiments/probe/routing_rules.h"

#include <gtest/gtest.h>

#include "tests/experiments/probe/plain_router.h"

namespace mobalab::experiments {
namespace {

std::vector<ProbeShape> shapes() {
    std::vector<ProbeShape> all;
    for (const kernels::DataType dtype : {kernels::DataType::fp32, kernels::DataType::bf16, kernels::DataType::fp16}) {
        all.push_back({.head_dim = 64, .block_size = 16, .seq_len = 4096, .dtype = dtype});
        all.push_back({.head_dim = 32, .block_size = 48, .seq_len = 1000, .dtype = dtype});
        all.push_back({.head_dim = 128, .block_size = 1, .seq_len = 300, .dtype = dtype});
        all.push_back({.head_dim = 16, .block_size = 512, .seq_len = 513, .dtype = dtype});  // one past block
    }
    return all;
}

TEST(RoutingRules, TheKernelKeepsThem) {
    const auto kernel = cpu_kernel(1);
    for (const ProbeShape& shape : shapes()) {
        for (const std::int64_t topk : {2, 8, 64}) {
            const RuleCheck tie = check_tie_rule(shape, topk, *kernel);
            EXPECT_GE(tie.rows, 16);
            EXPECT_EQ(tie.violations, 0) << canonical_text(shape) << " topk " << topk;
            const RuleCheck candidates = check_candidate_rule(shape, topk, *kernel);
            EXPECT_GE(candidates.rows, 4);
            EXPECT_EQ(candidates.violations, 0) << canonical_text(shape) << " topk " << topk;
        }
    }
}

TEST(RoutingRules, PlainLoopsKeepThem) {
    for (const ProbeShape& shape : shapes()) {
        EXPECT_EQ(check_tie_rule(shape, 4, PlainRouter()).violations, 0) << canonical_text(shape);
        EXPECT_EQ(check_candidate_rule(shape, 4, PlainRouter()).violations, 0) << canonical_text(shape);
    }
}

TEST(RoutingRules, EachFaultBreaksItsOwnRule) {
    const ProbeShape shape = shapes().front();
    EXPECT_GT(check_tie_rule(shape, 4, PlainRouter({.lower_index_wins = true})).violations, 0);
    EXPECT_EQ(check_candidate_rule(shape, 4, PlainRouter({.lower_index_wins = true})).violations, 0);
    EXPECT_GT(check_candidate_rule(shape, 4, PlainRouter({.more_candidates = 1})).violations, 0);
    EXPECT_GT(check_candidate_rule(shape, 4, PlainRouter({.more_candidates = -1})).violations, 0);
}

}  // namespace
}  // namespace mobalab::experiments
