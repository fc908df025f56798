// The fast path gives the same bits for any number of threads, and a score the same bits wherever its query and its
// block stand in the tiles.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/decode.h"
#include "kernels/kernels.h"

namespace mobalab::kernels {
namespace {

std::vector<float> normal(std::size_t count, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> distribution;
    std::vector<float> values(count);
    for (float& value : values) value = distribution(engine);
    return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

struct Results {
    std::vector<std::int32_t> selection;
    std::vector<float> scores, out, lse, dq, dk, dv, convolved, dk_conv, d_weight;
};

Results run_all(int threads) {
    constexpr int width = 4;
    Problem p;
    p.batch = 2;
    p.seqlen_q = 2000;  // several chunks a head, whose limits depend on the number of threads
    p.seqlen_k = 2100;
    p.heads_q = 2;
    p.heads_k = 1;
    p.head_dim = 40;
    p.block_size = 24;
    p.topk = 5;
    const auto queries = static_cast<std::size_t>(p.tokens_q() * p.heads_q * p.head_dim);
    const auto keys = static_cast<std::size_t>(p.tokens_k() * p.heads_k * p.head_dim);
    const std::vector<float> q = normal(queries, 1);
    const std::vector<float> k = normal(keys, 2);
    const std::vector<float> v = normal(keys, 3);
    const std::vector<float> d_out = normal(queries, 4);
    const std::vector<float> weight = normal(static_cast<std::size_t>(p.head_dim) * width, 5);
    const Execution execution = {.backend = Backend::cpu, .threads = threads};
    const auto rows = static_cast<std::size_t>(p.tokens_q() * p.heads_q);
    Results r;
    r.selection.resize(rows * 4);
    r.scores.resize(rows * 4);
    r.out.resize(queries);
    r.dq.resize(queries);
    r.lse.resize(rows);
    for (auto* tensor : {&r.dk, &r.dv, &r.convolved, &r.dk_conv}) tensor->resize(keys);
    r.d_weight.resize(weight.size());
    EXPECT_TRUE(route(p, {q.data()}, {k.data()}, r.selection.data(), r.scores.data(), execution).ok());
    EXPECT_TRUE(attention_forward(p, {q.data()}, {k.data()}, {v.data()}, r.selection.data(), {r.out.data()},
                                  r.lse.data(), execution)
                    .ok());
    EXPECT_TRUE(attention_backward(p, {q.data()}, {k.data()}, {v.data()}, {r.out.data()}, {d_out.data()}, r.lse.data(),
                                   r.selection.data(), {r.dq.data()}, {r.dk.data()}, {r.dv.data()}, execution)
                    .ok());
    EXPECT_TRUE(key_conv_forward(p, {k.data()}, weight.data(), width, {r.convolved.data()}, execution).ok());
    std::vector<float> fused(keys), centroids(static_cast<std::size_t>(p.centroid_elements()));
    EXPECT_TRUE(
        key_conv_centroids(p, {k.data()}, weight.data(), width, {fused.data()}, centroids.data(), execution).ok());
    EXPECT_TRUE(same_bits(fused, r.convolved));
    EXPECT_TRUE(key_conv_backward(p, {k.data()}, weight.data(), width, {v.data()}, {r.dk_conv.data()},
                                  r.d_weight.data(), execution)
                    .ok());
    return r;
}

/// run(threads) gives what it gives with one thread; what it does not compute is empty.
template <typename Run>
void expect_same_bits_with_more_threads(const Run& run) {
    const Results one = run(1);
    for (const int threads : {2, 7}) {
        const Results many = run(threads);
        EXPECT_EQ(many.selection, one.selection);
        EXPECT_TRUE(same_bits(many.scores, one.scores));
        EXPECT_TRUE(same_bits(many.out, one.out));
        EXPECT_TRUE(same_bits(many.lse, one.lse));
        EXPECT_TRUE(same_bits(many.dq, one.dq));
        EXPECT_TRUE(same_bits(many.dk, one.dk));
        EXPECT_TRUE(same_bits(many.dv, one.dv));
        EXPECT_TRUE(same_bits(many.convolved, one.convolved));
        EXPECT_TRUE(same_bits(many.dk_conv, one.dk_conv));
        EXPECT_TRUE(same_bits(many.d_weight, one.d_weight));
    }
}

TEST(CpuDeterminism, ThreadsDoNotChangeABit) {
    expect_same_bits_with_more_threads(run_all);
}

TEST(CpuDeterminism, ThreadsDoNotChangeAStep) {
    Problem p;
    p.batch = 3;
    p.seqlen_q = 2;
    p.seqlen_k = 1203;
    p.heads_q = 4;
    p.heads_k = 2;
    p.head_dim = 40;
    p.block_size = 24;
    p.topk = 5;
    const std::vector<std::int32_t> lengths = {1203, 40, 777};
    const Cache cache = {.lengths = lengths.data()};
    const auto queries = static_cast<std::size_t>(p.tokens_q() * p.heads_q * p.head_dim);
    const auto keys = static_cast<std::size_t>(p.tokens_k() * p.heads_k * p.head_dim);
    const std::vector<float> q = normal(queries, 1), k = normal(keys, 2), v = normal(keys, 3);
    const auto run = [&](int threads) {
        const Execution execution = {.backend = Backend::cpu, .threads = threads};
        const auto rows = static_cast<std::size_t>(p.tokens_q() * p.heads_q);
        Results r;
        r.convolved.resize(static_cast<std::size_t>(p.centroid_elements()));  // summaries
        r.selection.resize(rows * 4);
        r.out.resize(queries);
        r.lse.resize(rows);
        EXPECT_TRUE(moba_decode(p, cache, {q.data()}, {k.data()}, {v.data()}, p.seqlen_k, r.convolved.data(),
                                {r.out.data()}, r.lse.data(), r.selection.data(), execution)
                        .ok());
        return r;
    };
    expect_same_bits_with_more_threads(run);
}

TEST(CpuDeterminism, ThreadsDoNotChangeAScorer) {
    Problem p;
    p.seqlen_q = p.seqlen_k = 1203;
    p.heads_q = 2;
    p.head_dim = 40;
    p.block_size = 24;
    p.topk = 5;
    const std::vector<float> q = normal(static_cast<std::size_t>(p.seqlen_q * 2 * p.head_dim), 1);
    const std::vector<float> k = normal(static_cast<std::size_t>(p.seqlen_k * p.head_dim), 2);
    for (const Scorer& scorer :
         {Scorer{ScorerKind::quest}, {ScorerKind::max}, {ScorerKind::submean, 8}, {ScorerKind::random, 1, 9}}) {
        p.scorer = scorer;
        const auto run = [&](int threads) {
            const Execution execution = {.backend = Backend::cpu, .threads = threads};
            Results r;
            r.out.resize(static_cast<std::size_t>(p.centroid_elements()));
            r.selection.resize(static_cast<std::size_t>(p.seqlen_q) * 2 * 4);
            r.scores.resize(r.selection.size());
            EXPECT_TRUE(compute_centroids(p, {k.data()}, r.out.data(), execution).ok());
            EXPECT_TRUE(route(p, {q.data()}, {k.data()}, r.selection.data(), r.scores.data(), execution).ok());
            return r;
        };
        expect_same_bits_with_more_threads(run);
    }
}

/// Permutes the keys' blocks and shifts the queries: every (query, block) score keeps its bits. Odd sizes put the pairs
/// at all kinds of tile edges.
void place_does_not_change_a_score(const Scorer& scorer, std::int64_t block_size) {
    std::mt19937 engine(6);
    for (const std::int64_t d : {1, 3, 64, 128, 200, 256, 600}) {
        constexpr std::int64_t blocks = 61;
        Problem p;
        p.head_dim = d;
        p.block_size = block_size;
        p.scorer = scorer;
        p.topk = blocks;
        p.seqlen_k = blocks * block_size;
        const std::int64_t row = block_size * d;
        const std::vector<float> keys = normal(static_cast<std::size_t>(blocks * row), 7);
        std::vector<float> query = normal(static_cast<std::size_t>(d), 8);
        std::vector<float> score_of(blocks);
        for (int arrangement = 0; arrangement < 6; ++arrangement) {
            std::vector<std::size_t> order(blocks - 1);
            for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
            if (arrangement > 0) std::shuffle(order.begin(), order.end(), engine);
            std::vector<float> k(keys.size());
            for (std::size_t i = 0; i < order.size(); ++i) {
                std::copy_n(keys.begin() + static_cast<std::ptrdiff_t>(order[i]) * row, row,
                            k.begin() + static_cast<std::ptrdiff_t>(i) * row);
            }
            // The query under test is the last of `rows` rows: only the last position sees all 60 blocks.
            const std::int64_t rows = 1 + arrangement * 10;
            p.seqlen_q = rows;
            std::vector<float> q = normal(static_cast<std::size_t>(rows * d), 9);
            std::copy_n(query.begin(), d, q.end() - d);
            std::vector<std::int32_t> selection(static_cast<std::size_t>(rows) * (blocks - 1));
            std::vector<float> scores(selection.size());
            const Execution execution = {.backend = Backend::cpu, .threads = 1};
            ASSERT_TRUE(route(p, {q.data()}, {k.data()}, selection.data(), scores.data(), execution).ok());
            for (std::size_t slot = 0; slot < blocks - 1; ++slot) {
                const std::size_t at = static_cast<std::size_t>(rows - 1) * (blocks - 1) + slot;
                ASSERT_GE(selection[at], 0);
                const std::size_t key = order[static_cast<std::size_t>(selection[at])];
                if (arrangement == 0) score_of[key] = scores[at];
                ASSERT_EQ(scores[at], score_of[key]) << "d " << d << ", arrangement " << arrangement;
            }
        }
    }
}

TEST(CpuDeterminism, PlaceDoesNotChangeAScore) {
    place_does_not_change_a_score({ScorerKind::mean}, 1);  // the centroid is the key
    place_does_not_change_a_score({ScorerKind::quest}, 2);
    place_does_not_change_a_score({ScorerKind::submean, 3}, 6);
}

/// The same for whole tiles of queries: a row of the output depends on its own query and keys alone.
TEST(CpuDeterminism, PlaceDoesNotChangeAnOutputRow) {
    Problem p;
    p.seqlen_q = p.seqlen_k = 1203;
    p.head_dim = 40;
    p.block_size = 24;
    p.topk = 5;
    const auto count = static_cast<std::size_t>(p.seqlen_k * p.head_dim);
    const std::vector<float> q = normal(count, 1);
    const std::vector<float> k = normal(count, 2);
    const std::vector<float> v = normal(count, 3);
    const Execution execution = {.backend = Backend::cpu, .threads = 1};
    const auto run = [&](std::int64_t rows) {
        p.seqlen_q = rows;
        std::vector<float> out(static_cast<std::size_t>(rows * p.head_dim));
        std::vector<float> lse(static_cast<std::size_t>(rows));
        std::vector<std::int32_t> selection(static_cast<std::size_t>(rows) * 4);
        EXPECT_TRUE(moba_forward(p, {q.data() + count - out.size()}, {k.data()}, {v.data()}, {out.data()}, lse.data(),
                                 selection.data(), execution)
                        .ok());
        return out;
    };
    const std::vector<float> whole = run(1203);
    for (const std::int64_t rows : {1, 7, 239, 1100}) {
        const std::vector<float> part = run(rows);
        EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.end() - static_cast<std::ptrdiff_t>(part.size())))
            << rows;
    }
}

}  // namespace
}  // namespace mobalab::kernels
