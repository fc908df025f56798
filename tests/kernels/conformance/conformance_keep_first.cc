// Problem::keep_first: block 0 stands in slot 0 of every row that has it as a candidate, the best others behind it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "tests/kernels/conformance/keep_first_row.h"
#include "tests/kernels/conformance/scorer_definition.h"

namespace mobalab::kernels::conformance {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// Rows in block 0, 1 and beyond, whole sequences and chunks, empty sequences; on backend cuda lists of every kind, and
/// of one slot more and less than they hold.
std::vector<Case> keep_first_cases(const Target& target) {
    const DataType dtype = target.dtype;
    std::vector<Case> cases = {
        make_case("gqa 2, partial last block", shape(2, 300, 4, 2, 64, 32, 4), dtype, 80),
        make_case("own block alone", shape(1, 100, 1, 1, 64, 16, 1), dtype, 81),
        make_case("no slot is scored", shape(2, 200, 2, 1, 64, 16, 2), dtype, 82),
        make_case("one slot is scored", shape(1, 200, 2, 2, 64, 16, 3), dtype, 83),
        make_case("all blocks and more", shape(1, 200, 1, 1, 64, 16, 40), dtype, 84),
        make_case("blocks of 5 keys", shape(1, 200, 2, 1, 64, 5, 6), dtype, 95),
        make_case("blocks of 100 keys", shape(1, 450, 2, 1, 40, 100, 3), dtype, 96),
        make_case("shorter than a block", shape(2, 40, 1, 1, 64, 64, 4), dtype, 85),
        make_case("chunk, gqa 8, topk 8", shape(1, 100, 700, 8, 1, 64, 16, 8), dtype, 86),
        make_case("d 128, topk 9", shape(1, 70, 700, 1, 1, 128, 16, 9), dtype, 87),
        make_case("d 256, topk 5", shape(1, 60, 500, 2, 1, 256, 16, 5), dtype, 88),
        make_varlen_case("variable length, empty sequences", shape(1, 0, 4, 1, 64, 32, 4), {0, 130, 1, 0, 157},
                         {0, 130, 77, 65, 200}, dtype, 89),
        make_varlen_case("variable length, no slot is scored", shape(1, 0, 2, 1, 64, 16, 2), {0, 33, 100}, {0, 33, 150},
                         dtype, 90),
    };
    for (const std::int64_t topk : {16, 17, 18, 64}) {
        cases.push_back(make_case("topk " + std::to_string(topk), shape(1, 30, 1100, 1, 1, 64, 16, topk), dtype, 91));
    }
    for (const std::int64_t topk : {1, 2, 4, 40}) {  // their last blocks have powers of two of keys
        const Problem p = shape(1, 60, 264, 2, 1, 64, 16, topk);
        cases.push_back(make_case("not causal, topk " + std::to_string(topk), p, dtype, 97));
        cases.back().p.causal = false;
    }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    std::erase_if(cases, [](const Case& c) { return c.p.seqlen_k > 500; });  // the definition in double is slow here
#endif
    if (!target.any_shape) return cases;
    cases.push_back(make_case("blocks of one key, d 1", shape(1, 40, 1, 1, 1, 1, 5), dtype, 92));
    cases.push_back(make_case("more blocks than a tile", shape(1, 30, 1600, 1, 1, 8, 3, 7), dtype, 93));
    return cases;
}

std::vector<Case> with_keep_first(std::vector<Case> cases) {
    for (Case& c : cases) c.p.keep_first = true;
    return cases;
}

/// Small whole numbers: summaries of blocks that are powers of two, and all scores, are exact, and many of them tie.
void make_whole(Case& c, unsigned seed) {
    std::mt19937 engine(seed);
    for (std::vector<float>* values : {&c.q, &c.k}) {
        for (float& value : *values) value = static_cast<float>(engine() % 5) - 2.0F;
    }
}

/// NaN and infinities in some keys and queries, those of block 0 among them.
void poison_some(Case& c, unsigned seed) {
    std::mt19937 engine(seed);
    for (float& key : c.k) {
        const auto draw = engine() % 4000;
        if (draw < 3) key = draw == 0 ? nan : draw == 1 ? infinity : -infinity;
    }
    for (float& query : c.q) query = engine() % 3000 == 0 ? nan : query;
}

bool is_power_of_two(std::int64_t x) {
    return (x & (x - 1)) == 0;
}

/// The definition: block 0, then the other candidates by score and number.
void judge_definition(const Case& c, const std::vector<float>& summaries, const Routing& routing) {
    const Problem p = c.host_problem();
    const auto slots = static_cast<std::size_t>(p.routed());
    ASSERT_EQ(routing.selection.size(), static_cast<std::size_t>(p.heads_q * p.tokens_q()) * slots);
    if (slots == 0) return;
    for_each_row(p, [&](const cpu::Sequence& s, std::int64_t head, std::int64_t row, std::size_t at) {
        std::vector<std::pair<double, std::int32_t>> order;
        for (std::int64_t block = 1; block < s.candidates(row); ++block) {
            const double score = exact_score(c, summaries, s, head, row, block).value;
            order.emplace_back(score, static_cast<std::int32_t>(block));
        }
        std::sort(order.begin(), order.end(), std::greater<>());
        if (s.candidates(row) > 0) order.insert(order.begin(), {infinity, 0});
        order.resize(slots, {-infinity, -1});
        for (std::size_t slot = 0; slot < slots; ++slot) {
            ASSERT_EQ(routing.selection[at + slot], order[slot].second) << "row " << row << ", slot " << slot;
            ASSERT_EQ(routing.scores[at + slot], order[slot].first) << "row " << row << ", slot " << slot;
        }
    });
}

/// How often block 0 had been selected best, selected, and not selected before.
struct Places {
    int best = 0, later = 0, missing = 0;
};

void judge_moved(const Case& c, const Routing& plain, const Routing& kept, Places& places) {
    const auto slots = static_cast<std::size_t>(c.p.routed());
    ASSERT_EQ(kept.selection.size(), plain.selection.size());
    for_each_row(c.host_problem(), [&](const cpu::Sequence& s, std::int64_t, std::int64_t row, std::size_t at) {
        const testing_support::KeepFirstRow check = {slots, s.candidates(row) > 0};
        ASSERT_EQ(check(plain.selection.data() + at, plain.scores.data() + at, kept.selection.data() + at,
                        kept.scores.data() + at),
                  "")
            << "row " << row;
        const std::size_t place = check.place_of_block_0(plain.selection.data() + at);
        if (check.is_candidate && slots > 0)
            ++(place == 0 ? places.best : place < slots ? places.later : places.missing);
    });
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace

TEST_P(MobaConformance, KeepFirstIsItsDefinition) {
    std::vector<Case> cases = with_keep_first(keep_first_cases(GetParam()));
    std::erase_if(cases, [](const Case& c) { return !is_power_of_two(c.p.block_size); });
    unsigned seed = 100;
    for (Case& c : cases) make_whole(c, seed++);
    for_each_scorer(GetParam(), Operation::route, cases, [&](Case c) {
        for (const Centroids kept : {Centroids::input_dtype, Centroids::fp32}) {
            c.p.centroids = kept;
            if (!supported(Operation::route, c.host_problem(), GetParam().backend).ok()) continue;
            const Pooled pooled = run_centroids(GetParam(), c);
            ASSERT_TRUE(pooled.status.ok()) << pooled.status.message;
            const Routing routing = run_route(GetParam(), c);
            ASSERT_TRUE(routing.status.ok()) << routing.status.message;
            judge_definition(c, pooled.centroids, routing);
            const Routing given = run_route_with_centroids(GetParam(), c, pooled.centroids);
            ASSERT_TRUE(given.status.ok()) << given.status.message;
            EXPECT_EQ(given.selection, routing.selection);
            EXPECT_TRUE(same_bits(given.scores, routing.scores));
        }
    });
}

/// Whatever the scores are: NaN and infinities of queries and keys, of block 0 and others.
TEST_P(MobaConformance, KeepFirstMovesBlock0ToTheFrontAndNothingElse) {
    std::vector<Case> cases = keep_first_cases(GetParam());
    const std::size_t clean = cases.size();
    unsigned seed = 200;
    for (std::size_t i = 0; i < clean; ++i) {
        cases.push_back(cases[i]);
        cases.back().name += ", poisoned";
        poison_some(cases.back(), seed++);
    }
    Places places;
    for_each_scorer(GetParam(), Operation::route, cases, [&](Case c) {
        const Routing plain = run_route(GetParam(), c);
        c.p.keep_first = true;
        const Routing kept = run_route(GetParam(), c);
        ASSERT_TRUE(plain.status.ok() && kept.status.ok()) << plain.status.message << kept.status.message;
        judge_moved(c, plain, kept, places);
    });
    EXPECT_GT(places.best, 1000);
    EXPECT_GT(places.later, 1000);
    EXPECT_GT(places.missing, 1000);
}

/// A row of NaN scores, or of -inf, keeps block 0 all the same; and what its keys hold changes no other slot.
TEST_P(MobaConformance, KeepFirstDoesNotLookAtBlock0) {
    const Case base = make_case("any block 0", shape(2, 300, 4, 2, 64, 32, 4), GetParam().dtype, 94);
    for_each_scorer(GetParam(), Operation::route, with_keep_first({base}), [&](Case c) {
        const Routing before = run_route(GetParam(), c);
        ASSERT_TRUE(before.status.ok()) << before.status.message;
        for (const float value : {nan, infinity, -infinity}) {
            for (std::int64_t sequence = 0; sequence < c.p.batch; ++sequence) {
                std::fill_n(c.k.begin() + sequence * 300 * 2 * 64, 32 * 2 * 64, value);
            }
            const Routing after = run_route(GetParam(), c);
            ASSERT_TRUE(after.status.ok()) << after.status.message;
            EXPECT_EQ(after.selection, before.selection) << "keys " << value;
            EXPECT_TRUE(same_bits(after.scores, before.scores)) << "keys " << value;
        }
        std::fill(c.q.begin(), c.q.end(), nan);
        const Routing of_nan = run_route(GetParam(), c);
        ASSERT_TRUE(of_nan.status.ok()) << of_nan.status.message;
        for_each_row(c.host_problem(), [&](const cpu::Sequence& s, std::int64_t, std::int64_t row, std::size_t at) {
            ASSERT_EQ(of_nan.selection[at], s.own_block(row) > 0 ? 0 : -1) << "row " << row;
            ASSERT_EQ(of_nan.scores[at], s.own_block(row) > 0 ? infinity : -infinity) << "row " << row;
            if (kept_by(c.p.scorer.kind).empty() || s.own_block(row) < 3) return;
            ASSERT_EQ(of_nan.selection[at + 1], s.own_block(row) - 1) << "of equal scores the higher, row " << row;
            ASSERT_TRUE(std::isnan(of_nan.scores[at + 1])) << "row " << row;
        });
    });
}

/// moba_forward() routes alike, and attention and its backward pass take the selection as it is.
TEST_P(MobaConformance, KeepFirstGoesThroughTheWholeOperation) {
    std::vector<Case> cases = with_keep_first(keep_first_cases(GetParam()));
    for (Case& c : cases) {
        c.p.scorer = {c.p.block_size % 2 == 0 ? ScorerKind::submean : ScorerKind::mean,
                      c.p.block_size % 2 == 0 ? 2 : 1};
        SCOPED_TRACE(c.name);
        if (!supported(Operation::moba_forward, c.host_problem(), GetParam().backend).ok()) {
            ASSERT_FALSE(c.p.causal);
            c.p.scorer = {};
        }
        const Attention got = run_moba(GetParam(), c);
        ASSERT_TRUE(got.status.ok()) << got.status.message;
        EXPECT_EQ(got.selection, run_route(GetParam(), c).selection);
        const Gradients gradients = run_backward(GetParam(), c, got, got.selection);
        c.p.keep_first = false;
        const Attention alone = run_attention(GetParam(), c, got.selection);
        ASSERT_TRUE(alone.status.ok()) << alone.status.message;
        EXPECT_TRUE(same_bits(alone.out, got.out));
        EXPECT_TRUE(same_bits(alone.lse, got.lse));
        const Gradients same = run_backward(GetParam(), c, got, got.selection);
        ASSERT_TRUE(gradients.status.ok() && same.status.ok()) << gradients.status.message << same.status.message;
        EXPECT_TRUE(same_bits(gradients.dq, same.dq));
        EXPECT_TRUE(same_bits(gradients.dk, same.dk));
        EXPECT_TRUE(same_bits(gradients.dv, same.dv));
    }
}

}  // namespace mobalab::kernels::conformance
