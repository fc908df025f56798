// Centroids::centred on every backend: the definition from the backend's own fp32 means, and what it is for.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/convert.h"
#include "tests/kernels/conformance/moba_conformance.h"

namespace mobalab::kernels::conformance {
namespace {

Case with(Case c, Centroids centroids) {
    c.p.centroids = centroids;
    return c;
}

/// The number of blocks of each sequence.
std::vector<std::int64_t> blocks_of(const Case& c) {
    if (c.cu_k.empty()) {
        return std::vector<std::int64_t>(static_cast<std::size_t>(c.p.batch), c.p.longest_blocks());
    }
    std::vector<std::int64_t> blocks;
    for (std::size_t i = 1; i < c.cu_k.size(); ++i) {
        blocks.push_back((c.cu_k[i] - c.cu_k[i - 1] + c.p.block_size - 1) / c.p.block_size);
    }
    return blocks;
}

/// By the definition in kernels.h, from fp32 means.
std::vector<float> centred(const Case& c, const std::vector<float>& means) {
    const auto row = static_cast<std::size_t>(c.p.heads_k * c.p.head_dim);
    std::vector<float> result;
    for (const std::int64_t blocks : blocks_of(c)) {
        const std::size_t first = result.size();
        for (std::size_t i = 0; i < static_cast<std::size_t>(blocks) * row; ++i) {
            const float reference = means[first + i % row];
            const float rest = std::isfinite(reference) ? means[first + i] - reference : means[first + i];
            result.push_back(cpu::round_to(c.p.dtype, rest));
        }
    }
    return result;
}

void expect_same(const std::vector<float>& got, const std::vector<float>& want, const std::string& what) {
    ASSERT_EQ(got.size(), want.size()) << what;
    for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_TRUE(got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])))
            << what << ", element " << i << ": " << got[i] << ", not " << want[i];
    }
}

/// Keys around a mean of `mean` standard deviations in every channel, another for each.
Case around_a_mean(Case c, float mean, unsigned seed) {
    const std::vector<float> of_channel =
        normal(static_cast<std::size_t>(c.p.heads_k * c.p.head_dim), DataType::fp32, seed);
    for (std::size_t i = 0; i < c.k.size(); ++i) c.k[i] += mean * of_channel[i % of_channel.size()];
    c.k = rounded(std::move(c.k), c.p.dtype);
    return c;
}

std::vector<Case> cases(DataType dtype) {
    return {around_a_mean(make_case("one sequence", shape(1, 600, 4, 2, 64, 32, 4), dtype, 11), 5, 1),
            around_a_mean(make_case("two sequences, a partial block", shape(2, 333, 2, 2, 64, 64, 3), dtype, 12), 5, 2),
            around_a_mean(make_case("less than a block", shape(1, 20, 1, 1, 64, 32, 2), dtype, 13), 5, 3),
            around_a_mean(make_varlen_case("packed", shape(5, 0, 2, 1, 64, 32, 4), {1, 32, 200, 33, 500},
                                           {1, 32, 200, 33, 500}, dtype, 14),
                          5, 4),
            around_a_mean(make_case("odd width and block", shape(1, 120, 4, 2, 40, 9, 4), dtype, 15), 5, 5),
            around_a_mean(make_case("wide, three heads", shape(1, 700, 3, 3, 200, 130, 3), dtype, 16), 5, 6),
            around_a_mean(make_case("large blocks", shape(1, 2500, 1, 1, 64, 1024, 2), dtype, 17), 5, 7),
            // More than the thread blocks that take turns on a GPU.
            around_a_mean(make_case("blocks of one key", shape(1, 4500, 1, 1, 8, 1, 6), dtype, 18), 5, 8)};
}

/// Rows of two selections that are different sets.
std::size_t differing_rows(const Case& c, std::vector<std::int32_t> a, std::vector<std::int32_t> b) {
    const std::int64_t slots = c.p.routed();
    std::size_t count = 0;
    for (std::int64_t at = 0; at < static_cast<std::int64_t>(a.size()); at += slots) {
        std::sort(a.begin() + at, a.begin() + at + slots);
        std::sort(b.begin() + at, b.begin() + at + slots);
        count += std::equal(a.begin() + at, a.begin() + at + slots, b.begin() + at) ? 0 : 1;
    }
    return count;
}

}  // namespace

TEST_P(MobaConformance, CentredCentroidsAreMeansLessThatOfBlock0) {
    for (const Case& c : cases(GetParam().dtype)) {
        SCOPED_TRACE(c.name);
        const Pooled means = run_centroids(GetParam(), with(c, Centroids::fp32));
        const Pooled got = run_centroids(GetParam(), with(c, Centroids::centred));
        ASSERT_TRUE(means.status.ok()) << means.status.message;
        ASSERT_TRUE(got.status.ok()) << got.status.message;
        expect_same(got.centroids, centred(c, means.centroids), "centroids");
    }
}

TEST_P(MobaConformance, CentredRoutingIsThatOfItsCentroids) {
    for (const Case& plain : cases(GetParam().dtype)) {
        SCOPED_TRACE(plain.name);
        const Case c = with(plain, Centroids::centred);
        const Routing whole = run_route(GetParam(), c);
        ASSERT_TRUE(whole.status.ok()) << whole.status.message;
        const Routing parts = run_route_with_centroids(GetParam(), c, run_centroids(GetParam(), c).centroids);
        EXPECT_EQ(whole.selection, parts.selection);
        expect_same(whole.scores, parts.scores, "scores");
        const Attention forward = run_moba(GetParam(), c);
        ASSERT_TRUE(forward.status.ok()) << forward.status.message;
        EXPECT_EQ(forward.selection, whole.selection);
    }
}

// What the option is for. Rows of the same keys routed with fp32 centroids are the judge. Expected of 16-bit centroids
// with a mean of 50 spreads (analysis/centroid_rounding.h): a quarter of the rows (fp16) to most of them (bf16);
// without it about 1 % (bf16).
TEST_P(MobaConformance, CentringUndoesWhatASharedMeanDoesToRounding) {
    const DataType dtype = GetParam().dtype;
    const Case c = around_a_mean(make_case("mean of 50", shape(1, 2048, 4, 4, 64, 32, 4), dtype, 15), 50, 5);
    const auto rows = static_cast<double>(c.p.heads_q * c.p.tokens_q());
    const auto routed = [&](Centroids centroids) { return run_route(GetParam(), with(c, centroids)).selection; };
    const std::vector<std::int32_t> judge = routed(Centroids::fp32);
    const auto after = static_cast<double>(differing_rows(c, routed(Centroids::centred), judge)) / rows;
    if (dtype == DataType::fp32) {
        EXPECT_LT(after, 2e-3);  // sums in another order
        return;
    }
    const auto before = static_cast<double>(differing_rows(c, routed(Centroids::input_dtype), judge)) / rows;
    EXPECT_GT(before, 0.1);
    EXPECT_LT(after, 0.03);
}

TEST_P(MobaConformance, CentredCentroidsOfAPrefixAreTheBeginningOfAllOfThem) {
    const Case all =
        with(around_a_mean(make_case("all", shape(320, 64, 32, 3), GetParam().dtype, 16), 5, 6), Centroids::centred);
    Case prefix = all;
    prefix.p.seqlen_q = prefix.p.seqlen_k = 192;
    prefix.k.resize(static_cast<std::size_t>(192 * 64));
    prefix.q.resize(prefix.k.size());
    const std::vector<float> whole = run_centroids(GetParam(), all).centroids;
    const std::vector<float> part = run_centroids(GetParam(), prefix).centroids;
    expect_same(part, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(part.size())}, "prefix");
}

// A NaN of block 0 must not reach the scores of other blocks: it would then hide among equals, and block 0 not be kept.
TEST_P(MobaConformance, ANaNInBlock0IsNotSubtracted) {
    for (const float poison : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        Case c = with(make_case("poisoned", shape(320, 64, 32, 3), GetParam().dtype, 17), Centroids::centred);
        c.k[3 * 64 + 7] = poison;
        const Pooled means = run_centroids(GetParam(), with(c, Centroids::fp32));
        expect_same(run_centroids(GetParam(), c).centroids, centred(c, means.centroids), "centroids");
        if (std::isnan(poison)) {
            const Routing routing = run_route(GetParam(), c);
            for (std::size_t row = 32; row < 320; ++row) {
                EXPECT_EQ(routing.selection[row * 2], 0) << "row " << row;  // NaN ranks first
            }
        }
    }
}

TEST_P(MobaConformance, CentredConvolvedKeysAreConvolvedAndThenPooled) {
    const Case c = with(cases(GetParam().dtype)[1], Centroids::centred);
    const std::vector<float> weight =
        normal(static_cast<std::size_t>(c.p.heads_k * c.p.head_dim * 3), DataType::fp32, 18);
    const ConvolvedAndPooled both = run_conv_centroids(GetParam(), c, weight, 3);
    ASSERT_TRUE(both.status.ok()) << both.status.message;
    Case convolved = c;
    convolved.k = run_conv(GetParam(), c, weight, 3).out;
    expect_same(both.centroids, run_centroids(GetParam(), convolved).centroids, "centroids");
}

TEST_P(MobaConformance, CentredCentroidsAreOfScorerMeanAlone) {
    Case c = with(make_case("quest", shape(320, 64, 32, 3), GetParam().dtype, 19), Centroids::centred);
    c.p.scorer.kind = ScorerKind::quest;
    const Status refused = supported(Operation::route, c.p, GetParam().backend);
    EXPECT_EQ(refused.code, StatusCode::invalid_argument);
    EXPECT_NE(refused.message.find("nearest valid choice: input_dtype"), std::string::npos) << refused.message;
}

}  // namespace mobalab::kernels::conformance
