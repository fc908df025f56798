// What every backend must do for every scorer that it supports; scorer_definition.h says once more what that is.
#include <algorithm>
#include <boost/math/distributions/chi_squared.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "kernels/cpu/sequences.h"
#include "kernels/scorers/hash_score.h"
#include "tests/kernels/conformance/scorer_definition.h"
#include "tests/sim/statistics.h"

namespace mobalab::kernels::conformance {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// Grouped heads, partial last blocks, chunks of queries, empty sequences; tiles of more than 512 sub-blocks and, where
/// any shape is taken, more than 512 in one block.
std::vector<Case> scorer_cases(const Target& target) {
    const DataType dtype = target.dtype;
    std::vector<Case> cases = {
        make_case("gqa 2, partial last block", shape(2, 300, 300, 4, 2, 64, 32, 3), dtype, 60),
        make_case("d 128", shape(1, 430, 430, 2, 2, 128, 64, 8), dtype, 61),
        make_case("chunked prefill, gqa 8", shape(1, 100, 700, 8, 1, 64, 16, 8), dtype, 62),
        make_case("topk of all blocks and more", shape(1, 200, 200, 1, 1, 64, 16, 40), dtype, 63),
        make_case("many sub-blocks", shape(1, 40, 1500, 1, 1, 64, 16, 12), dtype, 64),
        make_varlen_case("variable length, empty sequences", shape(1, 0, 0, 4, 1, 64, 32, 4), {0, 130, 1, 0, 157},
                         {0, 130, 77, 65, 200}, dtype, 65),
        make_case("blocks of 48 keys, d 80", shape(1, 300, 300, 2, 1, 80, 48, 4), dtype, 69),
        make_case("blocks of 8 keys", shape(1, 200, 290, 2, 1, 64, 8, 5), dtype, 70),
    };
    cases.push_back(make_case("not causal, partial last block", shape(2, 100, 300, 4, 2, 64, 32, 3), dtype, 59));
    cases.back().p.causal = false;
    cases.push_back(make_varlen_case("not causal, variable length", shape(1, 0, 0, 2, 1, 64, 16, 4), {40, 0, 9},
                                     {70, 3, 121}, dtype, 58));
    cases.back().p.causal = false;
    cases.push_back(make_case("not causal, topk 70", shape(1, 40, 335, 1, 1, 64, 4, 70), dtype, 56));
    cases.back().p.causal = false;
    // What has no keys would be the best: the others score below 0.
    cases.push_back(make_case("not causal, scores below 0", shape(1, 60, 265, 2, 1, 64, 32, 4), dtype, 57));
    cases.back().p.causal = false;
    for (float& query : cases.back().q) query = std::abs(query);
    for (float& key : cases.back().k) key = -std::abs(key);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    // The definition in double is slow here; what wide tiles touch shows in "a block wider than a tile".
    std::erase_if(cases, [](const Case& c) { return c.p.seqlen_k > 300; });
#endif
    if (!target.any_shape) return cases;
    cases.push_back(make_case("blocks of one key, d 1", shape(1, 40, 40, 1, 1, 1, 1, 5), dtype, 66));
    cases.push_back(make_case("odd everything", shape(3, 61, 64, 6, 3, 7, 6, 6), dtype, 67));
    cases.push_back(make_case("a block wider than a tile", shape(1, 30, 1900, 1, 1, 8, 600, 3), dtype, 68));
    return cases;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// What one channel of some keys keeps, before rounding, and the mean of their magnitudes.
struct Channel {
    double value = 0.0, magnitude = 0.0;
};

Channel keep(const Case& c, std::int64_t first_token, std::int64_t count, std::int64_t head, std::int64_t channel,
             Kept kept) {
    Channel result;
    for (std::int64_t t = first_token; t < first_token + count; ++t) {
        const double key = c.k[static_cast<std::size_t>((t * c.p.heads_k + head) * c.p.head_dim + channel)];
        result.magnitude += std::abs(key) / static_cast<double>(count);
        if (kept == Kept::mean) {
            result.value += key / static_cast<double>(count);
        } else if (t == first_token || (kept == Kept::largest ? key > result.value : key < result.value)) {
            result.value = key;
        }
    }
    return result;
}

void judge_summaries(const Case& c, const std::vector<float>& got) {
    const Problem p = c.host_problem();
    const std::int64_t per_block = p.scorer.sub_blocks;
    const std::int64_t length = p.block_size / per_block;
    const std::vector<Kept> kept = kept_by(p.scorer.kind);
    ASSERT_EQ(got.size(), kept.size() * static_cast<std::size_t>(p.sub_blocks() * p.heads_k * p.head_dim));
    const bool wide = p.centroid_dtype() == DataType::fp32;
    const double unit = wide ? 0x1p-23 * 16 : p.dtype == DataType::bf16 ? 0x1p-7 : 0x1p-10;
    for (const cpu::Sequence& s : cpu::sequences_of(p)) {
        for (std::int64_t j = 0; j < s.blocks * per_block; ++j) {
            const std::int64_t count = std::min(length, s.keys - j * length);
            for (std::size_t i = 0; i < kept.size() * static_cast<std::size_t>(p.heads_k * p.head_dim); ++i) {
                const auto channel = static_cast<std::int64_t>(i) % p.head_dim;
                const auto head = static_cast<std::int64_t>(i) / p.head_dim % p.heads_k;
                const std::size_t part = i / static_cast<std::size_t>(p.head_dim * p.heads_k);
                const float value =
                    got[summary_at(p, static_cast<std::int64_t>(part), s.block_begin * per_block + j, head) +
                        static_cast<std::size_t>(channel)];
                if (count <= 0) {
                    ASSERT_EQ(value, 0.0F) << "empty sub-block " << j;
                    continue;
                }
                const Channel want = keep(c, s.k_begin + j * length, count, head, channel, kept[part]);
                const double error =
                    kept[part] == Kept::mean ? unit * std::abs(want.value) + 0x1p-22 * want.magnitude : 0.0;
                ASSERT_LE(std::abs(value - want.value), error) << "sub-block " << j << ", part " << part;
            }
        }
    }
}

/// One row: distinct candidates, best first by the scores it reports, each score right for its block, and the score in
/// every slot the best that is left up to rounding.
void judge_row(const std::vector<Score>& exact, std::int64_t routed, const std::int32_t* selection,
               const float* scores) {
    const auto kept = std::min<std::int64_t>(routed, static_cast<std::int64_t>(exact.size()));
    std::vector<double> order;
    double slack = 0.0;
    for (const Score& score : exact) {
        order.push_back(score.value);
        slack = std::max(slack, 2.0 * score.error);
    }
    std::sort(order.begin(), order.end(), std::greater<>());
    for (std::int64_t slot = 0; slot < routed; ++slot) {
        if (slot >= kept) {
            ASSERT_EQ(selection[slot], -1);
            ASSERT_EQ(scores[slot], -infinity);
            continue;
        }
        ASSERT_GE(selection[slot], 0);
        ASSERT_LT(selection[slot], static_cast<std::int64_t>(exact.size()));
        ASSERT_EQ(std::count(selection, selection + kept, selection[slot]), 1);
        const Score& score = exact[static_cast<std::size_t>(selection[slot])];
        ASSERT_LE(std::abs(scores[slot] - score.value), score.error) << "slot " << slot;
        ASSERT_GE(score.value, order[static_cast<std::size_t>(slot)] - slack) << "slot " << slot;
        if (slot == 0) continue;
        const bool tie = scores[slot] == scores[slot - 1] && selection[slot] < selection[slot - 1];
        ASSERT_TRUE(scores[slot] < scores[slot - 1] || tie) << "slot " << slot;
    }
}

void judge_routing(const Case& c, const std::vector<float>& summaries, const Routing& routing) {
    const Problem p = c.host_problem();
    ASSERT_EQ(routing.selection.size(), static_cast<std::size_t>(p.heads_q * p.tokens_q() * p.routed()));
    for_each_row(p, [&](const cpu::Sequence& s, std::int64_t head, std::int64_t row, std::size_t at) {
        SCOPED_TRACE("head " + std::to_string(head) + ", sequence row " + std::to_string(row));
        std::vector<Score> exact;
        for (std::int64_t block = 0; block < s.candidates(row); ++block) {
            exact.push_back(exact_score(c, summaries, s, head, row, block));
        }
        judge_row(exact, p.routed(), routing.selection.data() + at, routing.scores.data() + at);
    });
}

/// Copies the keys of block `from` over block `to`.
void copy_block(Case& c, std::int64_t from, std::int64_t to) {
    const auto count = c.p.block_size * c.p.heads_k * c.p.head_dim;
    std::copy_n(c.k.begin() + from * count, count, c.k.begin() + to * count);
}

/// Each case with summaries in the dtype of the keys, and in fp32.
std::vector<Case> with_both_centroids(const std::vector<Case>& cases) {
    std::vector<Case> all;
    for (const Case& c : cases) {
        for (const Centroids kept : {Centroids::input_dtype, Centroids::fp32}) {
            all.push_back(c);
            all.back().p.centroids = kept;
        }
    }
    return all;
}

}  // namespace

TEST_P(MobaConformance, ScorersKeepWhatTheyDefine) {
    const std::vector<Case> cases = with_both_centroids(scorer_cases(GetParam()));
    for_each_scorer(GetParam(), Operation::centroids, cases, [&](const Case& c) {
        const Pooled got = run_centroids(GetParam(), c);
        ASSERT_TRUE(got.status.ok()) << got.status.message;
        judge_summaries(c, got.centroids);
    });
}

TEST_P(MobaConformance, ScorersRouteToTheirBestBlocks) {
    const std::vector<Case> cases = with_both_centroids(scorer_cases(GetParam()));
    for_each_scorer(GetParam(), Operation::route, cases, [&](const Case& c) {
        const Pooled pooled = run_centroids(GetParam(), c);
        ASSERT_TRUE(pooled.status.ok()) << pooled.status.message;
        const Routing routing = run_route(GetParam(), c);
        ASSERT_TRUE(routing.status.ok()) << routing.status.message;
        judge_routing(c, pooled.centroids, routing);
        const Routing given = run_route_with_centroids(GetParam(), c, pooled.centroids);
        ASSERT_TRUE(given.status.ok()) << given.status.message;
        EXPECT_EQ(given.selection, routing.selection);
        EXPECT_TRUE(same_bits(given.scores, routing.scores));
    });
}

/// One pooling serves any chunk of queries; and where the later keys are not there yet, earlier rows are the same.
TEST_P(MobaConformance, ScorersRouteChunksAsTheWholeSequence) {
    const Case base = make_case("chunks", shape(1, 640, 640, 2, 1, 64, 32, 6), GetParam().dtype, 70);
    for_each_scorer(GetParam(), Operation::route_with_centroids, {base}, [&](const Case& whole) {
        const Routing all = run_route(GetParam(), whole);
        const Pooled pooled = run_centroids(GetParam(), whole);
        ASSERT_TRUE(all.status.ok() && pooled.status.ok()) << all.status.message << pooled.status.message;
        const std::size_t slots = 5, row_elements = 2 * 64;
        for (const std::size_t rows : {1, 100, 333}) {
            Case chunk = whole;
            chunk.p.seqlen_q = static_cast<std::int64_t>(rows);
            chunk.q.assign(whole.q.end() - static_cast<std::ptrdiff_t>(rows * row_elements), whole.q.end());
            const Routing part = run_route_with_centroids(GetParam(), chunk, pooled.centroids);
            ASSERT_TRUE(part.status.ok()) << part.status.message;
            for (std::size_t head = 0; head < 2; ++head) {
                ASSERT_TRUE(
                    std::equal(part.selection.begin() + static_cast<std::ptrdiff_t>(head * rows * slots),
                               part.selection.begin() + static_cast<std::ptrdiff_t>((head + 1) * rows * slots),
                               all.selection.begin() + static_cast<std::ptrdiff_t>(((head + 1) * 640 - rows) * slots)))
                    << rows << " rows, head " << head;
            }
        }
        Case early = whole;
        early.p.seqlen_q = early.p.seqlen_k = 320;
        early.q.resize(320 * row_elements);
        early.k.resize(320 * 64);
        const Routing first = run_route(GetParam(), early);
        ASSERT_TRUE(first.status.ok()) << first.status.message;
        for (std::size_t head = 0; head < 2; ++head) {
            ASSERT_TRUE(std::equal(first.selection.begin() + static_cast<std::ptrdiff_t>(head * 320 * slots),
                                   first.selection.begin() + static_cast<std::ptrdiff_t>((head + 1) * 320 * slots),
                                   all.selection.begin() + static_cast<std::ptrdiff_t>(head * 640 * slots)))
                << "head " << head;
        }
    });
}

/// Identical blocks far apart score the same bits wherever they stand in the backend's tiles.
TEST_P(MobaConformance, ScorersTieExactly) {
    constexpr std::int64_t blocks = 71;
    Case base = make_case("duplicates", shape(1, 480, blocks * 16, 1, 1, 128, 16, 16), GetParam().dtype, 71);
    for (std::int64_t block = 0; block < blocks / 2; ++block) copy_block(base, block, blocks - 1 - block);
    for_each_scorer(GetParam(), Operation::route, {base}, [&](const Case& c) {
        if (kept_by(c.p.scorer.kind).empty()) return;  // looks at no key
        const Routing routing = run_route(GetParam(), c);
        ASSERT_TRUE(routing.status.ok()) << routing.status.message;
        int pairs = 0;
        for_each_row(c.host_problem(), [&](const cpu::Sequence& s, std::int64_t, std::int64_t row, std::size_t at) {
            for (std::size_t slot = 0; slot < 15; ++slot) {
                const std::int32_t block = routing.selection[at + slot];
                const std::int64_t twin = blocks - 1 - block;
                if (block < 0 || twin <= block || twin >= s.own_block(row)) continue;
                ASSERT_GT(slot, 0U) << "row " << row;
                ASSERT_EQ(routing.selection[at + slot - 1], twin) << "row " << row << ", slot " << slot;
                ASSERT_EQ(routing.scores[at + slot - 1], routing.scores[at + slot]);
                ++pairs;
            }
        });
        EXPECT_GT(pairs, 500);
    });
}

/// In whatever sub-block it is; a scorer that looks at no key does not see it.
TEST_P(MobaConformance, ANaNKeyRanksFirstForEveryScorer) {
    const Case base = make_case("poisoned", shape(2, 300, 300, 4, 2, 64, 32, 4), GetParam().dtype, 72);
    for_each_scorer(GetParam(), Operation::route, {base}, [&](Case c) {
        const Routing before = run_route(GetParam(), c);
        constexpr std::int64_t token = 32 + 21;  // of sequence 0, head 0, block 1
        c.k[token * 2 * 64 + 5] = nan;
        const Routing after = run_route(GetParam(), c);
        ASSERT_TRUE(before.status.ok() && after.status.ok()) << before.status.message << after.status.message;
        const bool looks = !kept_by(c.p.scorer.kind).empty();
        for_each_row(
            c.host_problem(), [&](const cpu::Sequence& s, std::int64_t head, std::int64_t row, std::size_t at) {
                if (looks && s.number == 0 && head < 2 && s.own_block(row) > 1) {
                    ASSERT_EQ(after.selection[at], 1) << "row " << row;
                    ASSERT_TRUE(std::isnan(after.scores[at])) << "row " << row;
                    return;
                }
                ASSERT_EQ(std::memcmp(&after.selection[at], &before.selection[at], 3 * sizeof(std::int32_t)), 0) << row;
                ASSERT_EQ(std::memcmp(&after.scores[at], &before.scores[at], 3 * sizeof(float)), 0) << row;
            });
    });
}

/// An infinite key: 0 * infinity is NaN wherever a part's map has made a zero of the query.
TEST_P(MobaConformance, AnInfiniteKeyFollowsTheFormula) {
    const Case base = make_case("infinite", shape(1, 200, 200, 1, 1, 64, 32, 4), GetParam().dtype, 73);
    for_each_scorer(GetParam(), Operation::route, {base}, [&](Case c) {
        const Routing before = run_route(GetParam(), c);
        c.k[(32 + 21) * 64 + 5] = infinity;
        const Routing after = run_route(GetParam(), c);
        ASSERT_TRUE(after.status.ok()) << after.status.message;
        const ScorerKind kind = c.p.scorer.kind;
        for_each_row(c.host_problem(), [&](const cpu::Sequence& s, std::int64_t, std::int64_t row, std::size_t at) {
            const float q = c.q[static_cast<std::size_t>(row * 64 + 5)];
            if (kind == ScorerKind::random || s.own_block(row) < 2 || q == 0.0F) return;
            if (q > 0.0F || kind == ScorerKind::quest) {
                ASSERT_EQ(after.selection[at], 1) << "row " << row;
                ASSERT_EQ(std::isnan(after.scores[at]), q < 0.0F) << "row " << row;
                ASSERT_TRUE(q < 0.0F || after.scores[at] == infinity) << "row " << row;
                return;
            }
            // The sub-block of that key is out; the block is there for its others, if it has any.
            const auto end = after.selection.begin() + static_cast<std::ptrdiff_t>(at + 3);
            const bool found = std::find(end - 3, end, 1) != end;
            ASSERT_TRUE(!found || c.p.scorer.sub_blocks > 1) << "row " << row;
        });
    });
}

TEST_P(MobaConformance, ScorersKeepAllBlocksWhenAskedFor) {
    const Case base = make_case("all", shape(2, 230, 230, 2, 1, 64, 32, 9), GetParam().dtype, 74);
    for_each_scorer(GetParam(), Operation::route, {base}, [&](const Case& c) {
        const Routing routing = run_route(GetParam(), c);
        ASSERT_TRUE(routing.status.ok()) << routing.status.message;
        for_each_row(c.host_problem(), [&](const cpu::Sequence& s, std::int64_t, std::int64_t row, std::size_t at) {
            std::vector<std::int32_t> kept(routing.selection.begin() + static_cast<std::ptrdiff_t>(at),
                                           routing.selection.begin() + static_cast<std::ptrdiff_t>(at) + 7);
            std::sort(kept.begin(), kept.end());
            std::vector<std::int32_t> want(7, -1);
            std::iota(want.end() - s.own_block(row), want.end(), 0);
            ASSERT_EQ(kept, want) << "row " << row;
        });
    });
}

TEST_P(MobaConformance, ScorersRouteTheWholeOperationToo) {
    const Case base = make_case("moba", shape(2, 200, 200, 4, 2, 64, 32, 3), GetParam().dtype, 75);
    for_each_scorer(GetParam(), Operation::moba_forward, {base}, [&](const Case& c) {
        const Attention got = run_moba(GetParam(), c);
        ASSERT_TRUE(got.status.ok()) << got.status.message;
        EXPECT_EQ(got.selection, run_route(GetParam(), c).selection);
        const Attention alone = run_attention(GetParam(), c, got.selection);
        ASSERT_TRUE(alone.status.ok()) << alone.status.message;
        EXPECT_TRUE(same_bits(alone.out, got.out));
        EXPECT_TRUE(same_bits(alone.lse, got.lse));
    });
}

TEST_P(MobaConformance, ScorersKeepWhatIsLeftOfConvolvedKeys) {
    const Case base = make_case("convolved", shape(2, 150, 150, 2, 2, 64, 32, 3), GetParam().dtype, 76);
    const std::vector<float> weight = normal(static_cast<std::size_t>(2 * 64 * 3), DataType::fp32, 77);
    for_each_scorer(GetParam(), Operation::key_conv_centroids, {base}, [&](Case c) {
        const ConvolvedAndPooled got = run_conv_centroids(GetParam(), c, weight, 3);
        ASSERT_TRUE(got.status.ok()) << got.status.message;
        const Convolved convolved = run_conv(GetParam(), c, weight, 3);
        ASSERT_TRUE(convolved.status.ok()) << convolved.status.message;
        EXPECT_TRUE(same_bits(got.out, convolved.out));
        c.k = convolved.out;
        EXPECT_TRUE(same_bits(got.centroids, run_centroids(GetParam(), c).centroids));
    });
}

/// Every candidate is chosen as often as any other, whatever else the query is: chi-square of the counts. With 8192
/// rows that choose 4 of 32, a block chosen a seventh too often fails with probability above 0.999.
TEST_P(MobaConformance, RandomIsUniformOverCandidates) {
    constexpr std::int64_t candidates = 32, rows = 16, heads = 64, batch = 8, slots = 4;
    Case c = make_case("random", shape(batch, rows, candidates * 16 + rows, heads, 1, 64, 16, slots + 1),
                       GetParam().dtype, 78);
    c.p.scorer = {ScorerKind::random, 1, sim::testing::test_seed()};
    if (const Status taken = supported(Operation::route, c.p, GetParam().backend); !taken.ok()) {
        ASSERT_EQ(GetParam().backend, Backend::cuda) << taken.message;
        GTEST_SKIP() << taken.message;
    }
    const Routing routing = run_route(GetParam(), c);
    ASSERT_TRUE(routing.status.ok()) << routing.status.message;
    std::vector<double> counts(candidates);
    for (const std::int32_t block : routing.selection) {
        ASSERT_TRUE(block >= 0 && block < candidates) << block;
        ++counts[static_cast<std::size_t>(block)];
    }
    // Counts of a draw of k of n without replacement: variance and covariance make this chi-square of n - 1.
    constexpr double share = static_cast<double>(slots) / candidates;
    constexpr double trials = static_cast<double>(rows * heads * batch);
    double statistic = 0.0;
    for (const double count : counts) statistic += (count - trials * share) * (count - trials * share);
    statistic *= (candidates - 1.0) / candidates / (trials * share * (1.0 - share));
    const boost::math::chi_squared law(candidates - 1.0);
    EXPECT_LE(statistic, quantile(complement(law, sim::testing::kFalseAlarm)));
    EXPECT_GE(statistic, quantile(law, sim::testing::kFalseAlarm));

    // Rows, heads and sequences differ, and so do seeds: 4 of 32 in order meet by chance once in 863040.
    std::set<std::vector<std::int32_t>> different;
    for (auto row = routing.selection.begin(); row != routing.selection.end(); row += slots) {
        different.insert({row, row + slots});
    }
    EXPECT_GT(different.size(), 8192U - 100U);
    c.p.scorer.seed ^= 1U;
    const Routing other = run_route(GetParam(), c);
    ASSERT_TRUE(other.status.ok()) << other.status.message;
    int same = 0;
    for (std::size_t at = 0; at < other.selection.size(); at += slots) {
        same += std::equal(&other.selection[at], &other.selection[at] + slots, &routing.selection[at]) ? 1 : 0;
    }
    EXPECT_LT(same, 20);
}

/// The hash itself, computed once by another program: its bits are part of every result of scorer random.
TEST(RandomScorer, HasTheseBits) {
    constexpr std::uint64_t last = ~std::uint64_t{0};
    EXPECT_EQ(hash_of_query(0, 0, 0, 0), 0x2130748aaac80268U);
    EXPECT_EQ(hash_of_query(1, 2, 3, 4), 0xd55ccd4aeb3ccafbU);
    EXPECT_EQ(hash_of_query(last, 5, 63, 2147483647), 0xb6621352219a2e18U);
    EXPECT_EQ(hash_score(0x2130748aaac80268U, 0), 7908954.0F * 0x1p-24F);
    EXPECT_EQ(hash_score(0x2130748aaac80268U, 1), 10867573.0F * 0x1p-24F);
    EXPECT_EQ(hash_score(0xb6621352219a2e18U, 1000), 10052242.0F * 0x1p-24F);
}

}  // namespace mobalab::kernels::conformance
