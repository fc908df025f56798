#include "experiments/probe/probe_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "tests/sim/statistics.h"

namespace mobalab::experiments {
namespace {

// Shapes with every relation of d, B, N that matters: partial last blocks, one past block, B = 1.
std::vector<ProbeShape> shapes() {
    std::vector<ProbeShape> all;
    for (const std::int64_t block_size : {1, 7, 16, 512}) {
        for (const std::int64_t blocks : {1, 2, 9, 64}) {
            for (const std::int64_t partial : {std::int64_t{1}, (block_size + 1) / 2, block_size}) {
                all.push_back({.head_dim = 16, .block_size = block_size, .seq_len = blocks * block_size + partial});
            }
        }
    }
    return all;
}

TEST(ProbePlan, EveryProbeHasAPastBlockAndStandsInTheSequence) {
    std::mt19937_64 random(sim::testing::test_seed());
    std::uniform_real_distribution<double> uniform(0.0, 1.0);
    for (const ProbeShape& shape : shapes()) {
        for (const std::int64_t probes : {2, 3, 100, 128, 1024, 4096}) {
            std::vector<double> uniforms(static_cast<std::size_t>(probe_strata(shape, probes)));
            std::generate(uniforms.begin(), uniforms.end(), [&] { return uniform(random); });
            std::int64_t rows = 0;
            std::int64_t in_last_block = 0;
            for (const QueryChunk& chunk : probe_chunks(shape, probes, uniforms)) {
                ASSERT_GE(chunk.start, shape.block_size);
                ASSERT_GE(chunk.rows, 1);
                ASSERT_LE(chunk.start + chunk.rows, shape.seq_len);
                rows += chunk.rows;
                in_last_block += chunk.start / shape.block_size == shape.last_candidates() ? chunk.rows : 0;
            }
            ASSERT_EQ(rows, probes) << canonical_text(shape);
            ASSERT_GE(in_last_block, probes / 8) << canonical_text(shape);
        }
    }
}

TEST(ProbePlan, ExtremeUniformsStayInside) {
    const ProbeShape shape{.head_dim = 16, .block_size = 16, .seq_len = 1000};
    const auto strata = static_cast<std::size_t>(probe_strata(shape, 512));
    const std::vector<QueryChunk> low = probe_chunks(shape, 512, std::vector<double>(strata, 0.0));
    const std::vector<QueryChunk> high = probe_chunks(shape, 512, std::vector<double>(strata, 0x1.fffffffffffffp-1));
    EXPECT_EQ(low.front().start, 16);
    EXPECT_LE(high[strata - 1].start + high[strata - 1].rows, 1000);
    EXPECT_GT(high[strata - 1].start, 800);
}

TEST(ProbePlan, BucketsCoverEveryNumberOfCandidatesOnce) {
    for (std::int64_t last = 1; last <= 3000; last = last < 70 ? last + 1 : last * 2 + 1) {
        const CandidateBuckets buckets = candidate_buckets(last);
        ASSERT_LE(buckets.size(), 8U);
        ASSERT_EQ(buckets.low.back(), last);
        ASSERT_EQ(buckets.high.back(), last);
        for (std::int64_t c = 1; c <= last; ++c) {
            const std::size_t b = buckets.index_of(c);
            ASSERT_LT(b, buckets.size());
            ASSERT_LE(buckets.low[b], c);
            ASSERT_GE(buckets.high[b], c);
        }
    }
}

TEST(ProbePlan, FewProbesShareAKeySetUnlessTheUserSaysSo) {
    for (const ProbeShape& shape : shapes()) {
        const ProbeBudget chosen = split_probes(shape, 32768, 0);
        EXPECT_GE(chosen.key_sets, least_key_sets);
        EXPECT_GE(chosen.key_sets * chosen.probes, 32768);
        const std::int64_t freedom = (shape.last_candidates() + 1) * shape.head_dim;
        EXPECT_LE(chosen.probes, std::max<std::int64_t>(128, freedom / 4)) << canonical_text(shape);
        EXPECT_EQ(split_probes(shape, 1000, 10).key_sets, 10);
        EXPECT_EQ(split_probes(shape, 1000, 10).probes, 100);
    }
}

}  // namespace
}  // namespace mobalab::experiments
