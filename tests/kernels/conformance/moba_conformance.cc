// What every backend must do; see moba_conformance.h.
#include "tests/kernels/conformance/moba_conformance.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "kernels/cpu/reference.h"
#include "kernels/cpu/sequences.h"
#include "tests/kernels/conformance/score_rounding.h"

namespace mobalab::kernels::conformance {
namespace {

using reference::rows_of;

std::vector<double> wide(const std::vector<float>& values) {
    return {values.begin(), values.end()};
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// |got - want| / |want| in the Frobenius norm; NaN where anything is NaN.
double relative_error(const std::vector<float>& got, const std::vector<double>& want) {
    EXPECT_EQ(got.size(), want.size());
    double difference = 0.0;
    double norm = 0.0;
    for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
        difference += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return norm > 0.0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

double largest_difference(const std::vector<float>& got, const std::vector<double>& want) {
    EXPECT_EQ(got.size(), want.size());
    double largest = 0.0;
    for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
        if (got[i] == want[i]) continue;  // infinities too
        const double difference = std::abs(got[i] - want[i]);
        if (!(difference <= largest)) largest = difference;
    }
    return largest;
}

/// Calls visit(sequence, head, row, at) for every query row; `at` is its first entry in a selection.
template <typename Visit>
void for_each_row(const Problem& p, const Visit& visit) {
    for (const cpu::Sequence& s : cpu::sequences_of(p)) {
        for (std::int64_t head = 0; head < p.heads_q; ++head) {
            for (std::int64_t row = 0; row < s.queries; ++row) {
                visit(s, head, row, static_cast<std::size_t>((head * p.tokens_q() + s.q_begin + row) * p.routed()));
            }
        }
    }
}

/// The exact score of a block and how far fp32 accumulation may be from it.
struct Score {
    double value = 0.0, error = 0.0;
};

Score exact_score(const Case& c, const std::vector<float>& centroids, const cpu::Sequence& s, std::int64_t head,
                  std::int64_t row, std::int64_t block) {
    const std::int64_t d = c.p.head_dim;
    const float* q = c.q.data() + ((s.q_begin + row) * c.p.heads_q + head) * d;
    const std::int64_t head_k = head / (c.p.heads_q / c.p.heads_k);
    const float* centroid = centroids.data() + ((s.block_begin + block) * c.p.heads_k + head_k) * d;
    Score score;
    double magnitude = 0.0;
    for (std::int64_t i = 0; i < d; ++i) {
        const double term = static_cast<double>(q[i]) * centroid[i];
        score.value += term;
        magnitude += std::abs(term);
    }
    score.error = magnitude * score_error(c.p, d);
    return score;
}

/// Every row: the right number of distinct candidates, best first by the reported scores with ties to the higher block
/// (or, as the reference does it, by exact scores that only their fp32 numbers make equal), each score right for its
/// block, and no block left out that beats a kept one by more than rounding.
void judge_routing(const Case& c, const std::vector<float>& centroids, const Routing& routing) {
    const Problem p = c.host_problem();
    ASSERT_EQ(routing.selection.size(), static_cast<std::size_t>(p.heads_q * p.tokens_q() * p.routed()));
    const reference::Routing truth = reference::route(p, rows_of(wide(c.q), p.heads_q, p.head_dim), wide(centroids));
    for_each_row(p, [&](const cpu::Sequence& s, std::int64_t head, std::int64_t row, std::size_t at) {
        if (testing::Test::HasFailure()) return;  // one row's story is enough
        SCOPED_TRACE("head " + std::to_string(head) + ", sequence row " + std::to_string(row));
        const std::int64_t kept = std::min(p.routed(), s.candidates(row));
        for (std::int64_t slot = 0; slot < p.routed(); ++slot) {
            const std::size_t i = at + static_cast<std::size_t>(slot);
            if (slot >= kept) {
                ASSERT_EQ(routing.selection[i], -1);
                ASSERT_EQ(routing.scores[i], -std::numeric_limits<float>::infinity());
                continue;
            }
            ASSERT_GE(routing.selection[i], 0);
            ASSERT_LT(routing.selection[i], s.candidates(row));
            const Score score = exact_score(c, centroids, s, head, row, routing.selection[i]);
            ASSERT_LE(std::abs(routing.scores[i] - score.value), score.error);
            ASSERT_GE(score.value, truth.scores[i] - 2.0 * score.error) << "slot " << slot;
            if (slot == 0) continue;
            const bool lower = routing.scores[i] < routing.scores[i - 1];
            const bool equal = routing.scores[i] == routing.scores[i - 1];
            const bool tie = equal && routing.selection[i] < routing.selection[i - 1];
            const bool exact = equal && truth.scores[i] < truth.scores[i - 1] &&
                               routing.selection[i] == truth.selection[i] &&
                               routing.selection[i - 1] == truth.selection[i - 1];
            ASSERT_TRUE(lower || tie || exact) << "slot " << slot;
        }
    });
}

reference::Attention exact_attention(const Case& c, const std::vector<std::int32_t>& selection) {
    const Problem p = c.host_problem();
    return reference::attention_forward(p, rows_of(wide(c.q), p.heads_q, p.head_dim),
                                        rows_of(wide(c.k), p.heads_k, p.head_dim),
                                        rows_of(wide(c.v), p.heads_k, p.value_dim()), selection.data());
}

void judge_attention(const Target& target, const Case& c, const Attention& got) {
    const reference::Attention want = exact_attention(c, got.selection);
    EXPECT_LE(relative_error(got.out, want.out), tolerance(target).forward);
    EXPECT_LE(largest_difference(got.lse, want.lse), tolerance(target).lse);
}

/// Of the backward pass over the selection of the forward one.
void judge_gradients(const Target& target, const Case& c, const Attention& forward) {
    const Gradients got = run_backward(target, c, forward, forward.selection);
    ASSERT_TRUE(got.status.ok()) << got.status.message;
    const Problem p = c.host_problem();
    const reference::AttentionGradients want = reference::attention_backward(
        p, rows_of(wide(c.q), p.heads_q, p.head_dim), rows_of(wide(c.k), p.heads_k, p.head_dim),
        rows_of(wide(c.v), p.heads_k, p.value_dim()), rows_of(wide(c.d_out), p.heads_q, p.value_dim()),
        forward.selection.data());
    // A single key has P = 1 and exactly no gradient through the softmax: there is nothing to be relative to.
    const auto small = [](const std::vector<double>& values) {
        return std::all_of(values.begin(), values.end(), [](double x) { return std::abs(x) < 1e-9; });
    };
    const double bound = tolerance(target).gradient;
    EXPECT_LE(relative_error(got.dq, want.dq), small(want.dq) ? 1.0 : bound);
    EXPECT_LE(relative_error(got.dk, want.dk), small(want.dk) ? 1.0 : bound);
    EXPECT_LE(relative_error(got.dv, want.dv), bound);
}

/// Two widths a case; over the cases every width has its turn.
std::array<int, 2> widths_for(int turn) {
    return {1 + turn % max_conv_width, max_conv_width - turn % max_conv_width};
}

/// Copies the keys of block `from` over block `to`.
void copy_block(Case& c, std::int64_t from, std::int64_t to) {
    const auto count = c.p.block_size * c.p.heads_k * c.p.head_dim;
    std::copy_n(c.k.begin() + from * count, count, c.k.begin() + to * count);
}

}  // namespace

TEST_P(MobaConformance, CentroidsAreTheRoundedMeans) {
    for (Case& c : standard_cases(GetParam())) {
        for (const Centroids kept : {Centroids::input_dtype, Centroids::fp32}) {
            SCOPED_TRACE(c.name);
            c.p.centroids = kept;
            const Pooled got = run_centroids(GetParam(), c);
            ASSERT_TRUE(got.status.ok()) << got.status.message;
            const Problem p = c.host_problem();
            std::vector<double> keys = wide(c.k);
            const std::vector<double> want = reference::centroids(p, rows_of(keys, p.heads_k, p.head_dim));
            for (double& x : keys) x = std::abs(x);
            const std::vector<double> magnitude = reference::centroids(p, rows_of(keys, p.heads_k, p.head_dim));
            // Sums in another order may round to the neighbour: one unit in the last place of the kept dtype. Where
            // keys cancel, what the sum rounds away is a share of their magnitudes and not of what is left.
            const bool wide_kept = kept == Centroids::fp32 || c.p.dtype == DataType::fp32;
            const double unit = wide_kept ? 0x1p-23 * 16 : c.p.dtype == DataType::bf16 ? 0x1p-7 : 0x1p-10;
            ASSERT_EQ(got.centroids.size(), want.size());
            for (std::size_t i = 0; i < want.size(); ++i) {
                const double cancelled = 0x1p-22 * magnitude[i];
                ASSERT_LE(std::abs(got.centroids[i] - want[i]), unit * std::abs(want[i]) + cancelled) << i;
            }
        }
    }
}

TEST_P(MobaConformance, RoutingIsTheExactTopK) {
    for (Case& c : standard_cases(GetParam())) {
        for (const Centroids kept : {Centroids::input_dtype, Centroids::fp32}) {
            SCOPED_TRACE(c.name);
            c.p.centroids = kept;
            const Pooled pooled = run_centroids(GetParam(), c);
            ASSERT_TRUE(pooled.status.ok()) << pooled.status.message;
            const Routing routing = run_route(GetParam(), c);
            ASSERT_TRUE(routing.status.ok()) << routing.status.message;
            judge_routing(c, pooled.centroids, routing);
        }
    }
}

TEST_P(MobaConformance, RoutingWithGivenCentroidsIsRouting) {
    for (const Case& c : standard_cases(GetParam())) {
        SCOPED_TRACE(c.name);
        const Pooled pooled = run_centroids(GetParam(), c);
        ASSERT_TRUE(pooled.status.ok()) << pooled.status.message;
        const Routing given = run_route_with_centroids(GetParam(), c, pooled.centroids);
        ASSERT_TRUE(given.status.ok()) << given.status.message;
        const Routing whole = run_route(GetParam(), c);
        ASSERT_TRUE(whole.status.ok()) << whole.status.message;
        EXPECT_EQ(given.selection, whole.selection);
        EXPECT_TRUE(same_bits(given.scores, whole.scores));
    }
}

/// Scores have the same bits whatever topk is, so that routing does not depend on it.
TEST_P(MobaConformance, SelectionOfASmallerTopKIsAPrefix) {
    for (const std::int64_t head_dim : {64, 128, 256}) {
        Case c = make_case("prefix", shape(900, head_dim, 4, 200), GetParam().dtype, 20);
        const Routing all = run_route(GetParam(), c);
        ASSERT_TRUE(all.status.ok()) << all.status.message;
        for (const std::int64_t topk : {4, 12, 64, 65, 120}) {
            c.p.topk = topk;
            const Routing less = run_route(GetParam(), c);
            ASSERT_TRUE(less.status.ok()) << less.status.message;
            const auto slots = static_cast<std::size_t>(topk - 1);
            for (std::size_t row = 0; row < 900; ++row) {
                for (std::size_t slot = 0; slot < slots; ++slot) {
                    const std::size_t at = row * slots + slot, of_all = row * 199 + slot;
                    ASSERT_EQ(less.selection[at], all.selection[of_all]) << "topk " << topk << ", row " << row;
                    ASSERT_EQ(less.scores[at], all.scores[of_all]) << "topk " << topk << ", row " << row;
                }
            }
        }
    }
}

TEST_P(MobaConformance, AChunkOfQueriesIsRoutedAsInTheWholeSequence) {
    const Case whole = make_case("whole", shape(640, 64, 32, 6), GetParam().dtype, 21);
    const Routing all = run_route(GetParam(), whole);
    ASSERT_TRUE(all.status.ok()) << all.status.message;
    for (const std::int64_t rows : {1, 100, 333}) {
        Case chunk = whole;
        chunk.p.seqlen_q = rows;
        chunk.q.assign(whole.q.end() - rows * 64, whole.q.end());
        const Routing part = run_route(GetParam(), chunk);
        ASSERT_TRUE(part.status.ok()) << part.status.message;
        const std::vector<std::int32_t> tail(all.selection.end() - rows * 5, all.selection.end());
        EXPECT_EQ(part.selection, tail) << rows << " rows";
    }
}

TEST_P(MobaConformance, EqualKeysGoToTheHighestBlocks) {
    Case c = make_case("equal keys", shape(1000, 64, 32, 5), GetParam().dtype, 22);
    for (std::size_t i = 64; i < c.k.size(); ++i) c.k[i] = c.k[i - 64];
    const Routing routing = run_route(GetParam(), c);
    ASSERT_TRUE(routing.status.ok()) << routing.status.message;
    for (std::int64_t row = 0; row < 1000; ++row) {
        for (std::int64_t slot = 0; slot < 4; ++slot) {
            const std::int64_t block = std::max<std::int64_t>(-1, row / 32 - 1 - slot);
            ASSERT_EQ(routing.selection[static_cast<std::size_t>(row * 4 + slot)], block) << "row " << row;
        }
    }
}

/// Identical blocks far apart must score the same bits wherever they stand in the backend's tiles, and the higher one
/// comes first.
TEST_P(MobaConformance, DuplicateBlocksTieExactly) {
    constexpr std::int64_t blocks = 71;
    Case c = make_case("duplicates", shape(blocks * 16, 128, 16, 16), GetParam().dtype, 23);
    for (std::int64_t block = 0; block < blocks / 2; ++block) copy_block(c, block, blocks - 1 - block);
    const Routing routing = run_route(GetParam(), c);
    ASSERT_TRUE(routing.status.ok()) << routing.status.message;
    int pairs = 0;
    for_each_row(c.host_problem(), [&](const cpu::Sequence& s, std::int64_t, std::int64_t row, std::size_t at) {
        for (std::size_t slot = 0; slot < 15; ++slot) {
            const std::int32_t block = routing.selection[at + slot];
            const std::int64_t twin = blocks - 1 - block;
            if (block < 0 || twin <= block || twin >= s.own_block(row)) continue;
            // The lower one was selected: the higher one stands just before it.
            ASSERT_GT(slot, 0U) << "row " << row;
            ASSERT_EQ(routing.selection[at + slot - 1], twin) << "row " << row << ", slot " << slot;
            ASSERT_EQ(routing.scores[at + slot - 1], routing.scores[at + slot]);
            ++pairs;
        }
    });
    EXPECT_GT(pairs, 500);
}

TEST_P(MobaConformance, AttentionIsTheExactSoftmax) {
    for (const Case& c : standard_cases(GetParam())) {
        SCOPED_TRACE(c.name);
        const Attention got = run_moba(GetParam(), c);
        ASSERT_TRUE(got.status.ok()) << got.status.message;
        EXPECT_EQ(got.selection, run_route(GetParam(), c).selection);
        judge_attention(GetParam(), c, got);
        const Attention alone = run_attention(GetParam(), c, got.selection);
        ASSERT_TRUE(alone.status.ok()) << alone.status.message;
        EXPECT_TRUE(same_bits(alone.out, got.out));
        EXPECT_TRUE(same_bits(alone.lse, got.lse));
    }
}

TEST_P(MobaConformance, AllBlocksKeptIsDenseCausalAttention) {
    const Case c = make_case("dense", shape(230, 64, 32, 8), GetParam().dtype, 24);
    const Attention got = run_moba(GetParam(), c);
    ASSERT_TRUE(got.status.ok()) << got.status.message;
    std::vector<double> want(c.q.size());
    for (std::size_t row = 0; row < 230; ++row) {
        std::vector<double> weight;
        for (std::size_t key = 0; key <= row; ++key) {
            double score = 0.0;
            for (std::size_t i = 0; i < 64; ++i) score += static_cast<double>(c.q[row * 64 + i]) * c.k[key * 64 + i];
            weight.push_back(std::exp(score / 8.0));
        }
        const double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
        for (std::size_t key = 0; key <= row; ++key) {
            for (std::size_t i = 0; i < 64; ++i) want[row * 64 + i] += weight[key] / sum * c.v[key * 64 + i];
        }
    }
    EXPECT_LE(relative_error(got.out, want), tolerance(GetParam()).forward);
}

TEST_P(MobaConformance, SelectionsComeInAnyOrderAndWithHoles) {
    const Case c = make_case("shuffled", shape(500, 64, 16, 6), GetParam().dtype, 25);
    std::vector<std::int32_t> selection = run_route(GetParam(), c).selection;
    std::mt19937 engine(1);
    for (auto row = selection.begin(); row != selection.end(); row += 5) {
        row[2] = -1;
        std::shuffle(row, row + 5, engine);
    }
    const Attention got = run_attention(GetParam(), c, selection);
    ASSERT_TRUE(got.status.ok()) << got.status.message;
    judge_attention(GetParam(), c, got);
}

TEST_P(MobaConformance, EveryQueryToTheSink) {
    Case c = make_case("sink", shape(1200, 64, 32, 4), GetParam().dtype, 26);
    for (std::size_t i = 0; i < c.q.size(); ++i) c.q[i] += 1.0F;
    for (std::size_t i = 0; i < 32 * 64; ++i) c.k[i] += 1.0F;  // block 0
    c.q = rounded(c.q, GetParam().dtype);
    c.k = rounded(c.k, GetParam().dtype);
    const Attention got = run_moba(GetParam(), c);
    ASSERT_TRUE(got.status.ok()) << got.status.message;
    for (std::size_t row = 32; row < 1200; ++row) ASSERT_EQ(got.selection[row * 3], 0) << "row " << row;
    judge_attention(GetParam(), c, got);
    EXPECT_LE(largest_difference(got.lse, exact_attention(c, got.selection).lse), tolerance(GetParam()).lse);
}

/// Scores of order 1e5 (softmax of one key, mostly): no overflow, no NaN, and near ties still within fp32 accuracy.
TEST_P(MobaConformance, HugeQueries) {
    Case c = make_case("huge", shape(400, 64, 32, 4), GetParam().dtype, 27);
    for (float& x : c.q) x *= 1024.0F;  // |q| ~ 8e3, exact in every dtype
    const Attention got = run_moba(GetParam(), c);
    ASSERT_TRUE(got.status.ok()) << got.status.message;
    const reference::Attention want = exact_attention(c, got.selection);
    EXPECT_LE(relative_error(got.out, want.out), 1e-2);
    for (std::size_t i = 0; i < want.lse.size(); ++i) {
        ASSERT_LE(std::abs(got.lse[i] - want.lse[i]), 1e-5 * std::abs(want.lse[i]) + 0.05) << i;
    }
}

/// To the bit: nothing in their rows, and no word of what stood there before.
TEST_P(MobaConformance, RowsBeforeEveryKeySeeNothing) {
    std::vector<Case> cases = more_queries_than_keys(GetParam().dtype);
    cases.push_back(make_case("no keys", shape(2, 30, 0, 2, 1, 64, 32, 3), GetParam().dtype, 74));
    cases.push_back(make_varlen_case("no keys, variable length", shape(1, 0, 0, 2, 1, 64, 32, 3), {7, 20}, {0, 0},
                                     GetParam().dtype, 75));
    cases.back().p.seqlen_k = 100;  // so that there are slots
    for (Case& c : cases) {
        for (const bool keep_first : {false, true}) {
            SCOPED_TRACE(c.name + (keep_first ? ", keep_first" : ""));
            c.p.keep_first = keep_first;
            const Attention got = run_moba(GetParam(), c);
            ASSERT_TRUE(got.status.ok()) << got.status.message;
            const Routing routing = run_route(GetParam(), c);
            ASSERT_TRUE(routing.status.ok()) << routing.status.message;
            EXPECT_EQ(routing.selection, got.selection);
            const Gradients gradients = run_backward(GetParam(), c, got, got.selection);
            ASSERT_TRUE(gradients.status.ok()) << gradients.status.message;
            const Problem p = c.host_problem();
            std::int64_t blind = 0;
            for_each_row(p, [&](const cpu::Sequence& s, std::int64_t head, std::int64_t row, std::size_t at) {
                if (s.position(row) >= 0 || HasFailure()) return;
                ++blind;
                const std::int64_t token = s.q_begin + row;
                SCOPED_TRACE("head " + std::to_string(head) + ", token " + std::to_string(token));
                EXPECT_EQ(got.lse[static_cast<std::size_t>(head * p.tokens_q() + token)],
                          std::numeric_limits<float>::infinity());
                for (std::size_t slot = at; slot < at + static_cast<std::size_t>(p.routed()); ++slot) {
                    EXPECT_EQ(got.selection[slot], -1);
                    EXPECT_EQ(routing.scores[slot], -std::numeric_limits<float>::infinity());
                }
                for (std::int64_t i = 0; i < p.head_dim; ++i) {
                    const auto element = static_cast<std::size_t>((token * p.heads_q + head) * p.head_dim + i);
                    EXPECT_EQ(got.out[element], 0.0F);
                    EXPECT_EQ(gradients.dq[element], 0.0F);
                }
            });
            EXPECT_GT(blind, 0);
        }
    }
}

/// Flat and sharp softmaxes, forward and backward; the selection does not change with them.
TEST_P(MobaConformance, AnotherScale) {
    const std::vector<Problem> problems = {shape(2, 300, 4, 2, 64, 32, 3), shape(1, 400, 2, 1, 256, 64, 3)};
    for (const Problem& p : problems) {
        Case c = make_case("scale", p, GetParam().dtype, 34);
        const Attention plain = run_moba(GetParam(), c);
        ASSERT_TRUE(plain.status.ok()) << plain.status.message;
        for (const double scale : {1e-3, 0.5}) {
            SCOPED_TRACE("head_dim " + std::to_string(p.head_dim) + ", scale " + std::to_string(scale));
            c.p.scale = scale;
            const Attention got = run_moba(GetParam(), c);
            ASSERT_TRUE(got.status.ok()) << got.status.message;
            EXPECT_EQ(got.selection, plain.selection);
            EXPECT_FALSE(same_bits(got.out, plain.out));
            const reference::Attention want = exact_attention(c, got.selection);
            EXPECT_LE(relative_error(got.out, want.out), tolerance(GetParam()).forward);
            EXPECT_LE(largest_difference(got.lse, want.lse), 8.0 * tolerance(GetParam()).lse);
            judge_gradients(GetParam(), c, got);
        }
        c.p.scale = 1.0 / std::sqrt(static_cast<double>(p.head_dim));
        EXPECT_TRUE(same_bits(run_moba(GetParam(), c).out, plain.out));
    }
}

TEST_P(MobaConformance, StridedTensors) {
    for (const std::int64_t head_dim : {64, 40, 112, 200}) {
        SCOPED_TRACE("head_dim " + std::to_string(head_dim));
        const Case c = make_case("strided", shape(2, 300, 4, 2, head_dim, 32, 3), GetParam().dtype, 28);
        const Attention contiguous = run_moba(GetParam(), c);
        const Attention strided = run_strided(GetParam(), c);
        ASSERT_TRUE(contiguous.status.ok()) << contiguous.status.message;
        ASSERT_TRUE(strided.status.ok()) << strided.status.message;
        EXPECT_EQ(strided.selection, contiguous.selection);
        EXPECT_TRUE(same_bits(strided.out, contiguous.out));
        EXPECT_TRUE(same_bits(strided.lse, contiguous.lse));
    }
}

TEST_P(MobaConformance, GradientsAreThoseOfTheExactSoftmax) {
    for (const Case& c : standard_cases(GetParam())) {
        SCOPED_TRACE(c.name);
        const Attention forward = run_moba(GetParam(), c);
        ASSERT_TRUE(forward.status.ok()) << forward.status.message;
        judge_gradients(GetParam(), c, forward);
    }
}

TEST_P(MobaConformance, RepeatsAgreeBitForBit) {
    for (const std::int64_t head_dim : {128, 104}) {
        const Case c = make_case("repeats", shape(1000, head_dim, 64, 4), GetParam().dtype, 29);
        const Attention first = run_moba(GetParam(), c);
        ASSERT_TRUE(first.status.ok()) << first.status.message;
        const Gradients first_gradients = run_backward(GetParam(), c, first, first.selection);
        ASSERT_TRUE(first_gradients.status.ok()) << first_gradients.status.message;
        for (int i = 1; i < GetParam().repeats; ++i) {
            const Attention again = run_moba(GetParam(), c);
            ASSERT_TRUE(again.status.ok()) << again.status.message;
            ASSERT_TRUE(same_bits(again.out, first.out)) << "run " << i;
            ASSERT_TRUE(same_bits(again.lse, first.lse)) << "run " << i;
            ASSERT_EQ(again.selection, first.selection) << "run " << i;
            const Gradients gradients = run_backward(GetParam(), c, first, first.selection);
            ASSERT_TRUE(gradients.status.ok()) << gradients.status.message;
            ASSERT_TRUE(same_bits(gradients.dq, first_gradients.dq)) << "run " << i;
            ASSERT_TRUE(same_bits(gradients.dk, first_gradients.dk)) << "run " << i;
            ASSERT_TRUE(same_bits(gradients.dv, first_gradients.dv)) << "run " << i;
        }
    }
}

TEST_P(MobaConformance, KeyConvolution) {
    int turn = 0;
    for (const Case& c : standard_cases(GetParam())) {
        for (const int width : widths_for(turn++)) {
            SCOPED_TRACE(c.name + ", width " + std::to_string(width));
            const Problem p = c.host_problem();
            const std::vector<float> weight =
                normal(static_cast<std::size_t>(p.heads_k * p.head_dim * width), DataType::fp32, 30);
            const Convolved got = run_conv(GetParam(), c, weight, width);
            ASSERT_TRUE(got.status.ok()) << got.status.message;
            const std::vector<double> want =
                reference::key_conv_forward(p, rows_of(wide(c.k), p.heads_k, p.head_dim), wide(weight), width);
            EXPECT_LE(relative_error(got.out, want), tolerance(GetParam()).forward);
        }
    }
}

/// Fused or not, the same bits.
TEST_P(MobaConformance, KeyConvolutionWithCentroids) {
    int turn = 0;
    for (Case c : standard_cases(GetParam())) {
        for (const int width : widths_for(turn++)) {
            SCOPED_TRACE(c.name + ", width " + std::to_string(width));
            const std::vector<float> weight =
                normal(static_cast<std::size_t>(c.p.heads_k * c.p.head_dim * width), DataType::fp32, 33);
            const ConvolvedAndPooled got = run_conv_centroids(GetParam(), c, weight, width);
            ASSERT_TRUE(got.status.ok()) << got.status.message;
            const Convolved convolved = run_conv(GetParam(), c, weight, width);
            ASSERT_TRUE(convolved.status.ok()) << convolved.status.message;
            EXPECT_TRUE(same_bits(got.out, convolved.out));
            c.k = convolved.out;
            EXPECT_TRUE(same_bits(got.centroids, run_centroids(GetParam(), c).centroids));
        }
    }
}

TEST_P(MobaConformance, KeyConvolutionGradients) {
    int turn = 0;
    for (const Case& c : standard_cases(GetParam())) {
        for (const int width : widths_for(turn++)) {
            SCOPED_TRACE(c.name + ", width " + std::to_string(width));
            const Problem p = c.host_problem();
            const std::vector<float> weight =
                normal(static_cast<std::size_t>(p.heads_k * p.head_dim * width), DataType::fp32, 31);
            const std::vector<float> d_out = normal(c.k.size(), GetParam().dtype, 32);
            const ConvGradients got = run_conv_backward(GetParam(), c, weight, width, d_out);
            ASSERT_TRUE(got.status.ok()) << got.status.message;
            const reference::ConvGradients want =
                reference::key_conv_backward(p, rows_of(wide(c.k), p.heads_k, p.head_dim), wide(weight), width,
                                             rows_of(wide(d_out), p.heads_k, p.head_dim));
            EXPECT_LE(relative_error(got.dk, want.dk), tolerance(GetParam()).forward);
            EXPECT_LE(relative_error(got.d_weight, want.d_weight), 1e-5);
        }
    }
}

}  // namespace mobalab::kernels::conformance
