// Decoding (kernels/decode.h) against whole sequences: summaries bit for bit, selections of exact scores entry for
// entry, attention within the tolerance of every other kernel.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/kernels/conformance/decode_case.h"

namespace mobalab::kernels::conformance {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

struct Way {
    const char* name;
    Scorer scorer;
    Centroids centroids = Centroids::input_dtype;
    bool keep_first = false;
};

/// Everything that is kept of keys, and the ways to choose with it.
std::vector<Way> ways() {
    return {{"mean", {ScorerKind::mean, 1, 0}},
            {"mean in fp32", {ScorerKind::mean, 1, 0}, Centroids::fp32},
            {"centred", {ScorerKind::mean, 1, 0}, Centroids::centred},
            {"mean, block 0 kept", {ScorerKind::mean, 1, 0}, Centroids::input_dtype, true},
            {"quest", {ScorerKind::quest, 1, 0}},
            {"max", {ScorerKind::max, 1, 0}},
            {"submean-4", {ScorerKind::submean, 4, 0}},
            {"random", {ScorerKind::random, 1, 77}}};
}

DecodeCase with_way(DecodeCase c, const Way& way) {
    c.name += std::string(", ") + way.name;
    c.p.scorer = way.scorer;
    c.p.centroids = way.centroids;
    c.p.keep_first = way.keep_first;
    return c;
}

Problem decode_shape(std::int64_t batch, std::int64_t sq, std::int64_t most, std::int64_t heads_q, std::int64_t heads_k,
                     std::int64_t head_dim, std::int64_t block_size, std::int64_t topk) {
    return shape(batch, sq, most, heads_q, heads_k, head_dim, block_size, topk);
}

/// Empty sequences, sequences of a key, full ones, ones shorter than the queries.
std::vector<DecodeCase> decode_cases(DataType dtype) {
    return {
        decode_case("a query", decode_shape(3, 1, 300, 4, 2, 64, 16, 4), {300, 131, 1}, dtype, 1),
        decode_case("queries before every key", decode_shape(4, 3, 128, 2, 2, 64, 16, 3), {0, 2, 128, 65}, dtype, 4),
        decode_case("gqa 8, d 128", decode_shape(2, 1, 1100, 8, 1, 128, 16, 17), {1100, 700}, dtype, 7),
        decode_case("gqa 6, 2 queries, d 40", decode_shape(2, 2, 200, 6, 1, 40, 32, 3), {200, 93}, dtype, 10),
        decode_case("one block", decode_shape(2, 1, 60, 2, 1, 64, 64, 4), {60, 17}, dtype, 13),
        decode_case("all blocks", decode_shape(1, 2, 160, 2, 1, 96, 16, 40), {150}, dtype, 16),
        decode_case("own block alone", decode_shape(2, 1, 100, 2, 1, 32, 16, 1), {100, 40}, dtype, 19),
        decode_case("blocks of 512, d 256", decode_shape(1, 1, 2100, 2, 2, 256, 512, 3), {2100}, dtype, 22),
        decode_case("blocks of 4, many slots", decode_shape(2, 1, 600, 2, 1, 8, 4, 100), {600, 444}, dtype, 25)};
}

/// Values of another width than keys.
std::vector<DecodeCase> other_value_dims_of_a_step(DataType dtype) {
    struct Widths {
        std::int64_t keys, values;
    };
    std::vector<DecodeCase> cases;
    for (const auto& [keys, values] : {Widths{128, 64}, Widths{64, 128}, Widths{192, 128}, Widths{32, 256},
                                       Widths{256, 8}, Widths{40, 72}, Widths{8, 24}, Widths{24, 8}}) {
        Problem p = decode_shape(3, 2, 210, 6, 2, keys, values == 72 ? 12 : 32, 4);
        p.head_dim_v = values;
        cases.push_back(decode_case("d " + std::to_string(keys) + ", values " + std::to_string(values), p, {210, 65, 1},
                                    dtype, 60));
    }
    return cases;
}

bool taken(const Target& target, const DecodeCase& c) {
    return supported(Operation::moba_decode, c.p, target.backend).ok();
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
    EXPECT_EQ(got.size(), want.size());
    double difference = 0.0, norm = 0.0;
    for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
        difference += std::pow(static_cast<double>(got[i]) - static_cast<double>(want[i]), 2);
        norm += std::pow(static_cast<double>(want[i]), 2);
    }
    return norm > 0.0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

void expect_close(const std::vector<float>& got, const std::vector<float>& want, double bound) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        if (got[i] == want[i]) continue;  // infinities too
        ASSERT_LE(std::abs(got[i] - want[i]), bound) << "at " << i << ": " << got[i] << ", not " << want[i];
    }
}

/// A step from summaries of everything: against the reference over packed sequences. exact: scores are.
void judge_step(const Target& target, const DecodeCase& c, bool exact) {
    SCOPED_TRACE(c.name + (c.page_size > 0 ? ", pages of " + std::to_string(c.page_size) : ""));
    const std::vector<std::byte> kept = computed_centroids(target, c);
    const Decoded appended = run_append(target, c, c.p.seqlen_k, poisoned_centroids(c));
    ASSERT_TRUE(appended.status.ok()) << appended.status.message;
    EXPECT_TRUE(same_bits(appended.centroids, kept)) << "summaries";

    const Decoded routed = run_decode_route(target, c, kept);
    ASSERT_TRUE(routed.status.ok()) << routed.status.message;
    const Routing want = reference_route(c, kept);
    ASSERT_TRUE(want.status.ok()) << want.status.message;
    if (c.p.routed() > 0) {
        // Sorted scores move no further than single ones do, whichever blocks have them.
        double largest = 0.0;
        for (const float score : want.scores)
            largest = std::isfinite(score) ? std::max(largest, std::abs(double{score})) : largest;
        expect_close(routed.routing.scores, want.scores, exact ? 0.0 : 1e-4 * std::max(1.0, largest));
        if (exact) {
            EXPECT_EQ(routed.routing.selection, want.selection);
        }
    }

    const Decoded step = run_decode(target, c, c.p.seqlen_k, poisoned_centroids(c));
    ASSERT_TRUE(step.status.ok()) << step.status.message;
    EXPECT_TRUE(same_bits(step.centroids, kept)) << "summaries of the step";
    EXPECT_EQ(step.routing.selection, routed.routing.selection);
    const Attention attention = reference_attention(c, step.routing.selection);
    EXPECT_LE(relative_error(step.attention.out, attention.out), tolerance(target).forward);
    expect_close(step.attention.lse, attention.lse, tolerance(target).lse);
    const Decoded again = run_decode_attention(target, c, step.routing.selection);
    EXPECT_TRUE(same_bits(again.attention.out, step.attention.out)) << "attention alone";
    EXPECT_TRUE(same_bits(again.attention.lse, step.attention.lse)) << "lse of attention alone";
}

/// Lengths and shapes that the seed decides.
DecodeCase random_case(DataType dtype, unsigned seed) {
    std::mt19937 engine(seed);
    const auto between = [&](std::int64_t low, std::int64_t high) {
        return low + static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(high - low + 1));
    };
    const std::int64_t batch = between(1, 4), sq = between(1, 3), heads_k = between(1, 3), group = between(1, 5);
    const std::int64_t block_size = between(1, 70), most = between(1, 12 * block_size);
    const std::int64_t head_dim = 8 * between(1, 32), topk = between(1, 14);
    std::vector<std::int32_t> lengths;
    for (std::int64_t b = 0; b < batch; ++b) lengths.push_back(static_cast<std::int32_t>(between(0, most)));
    Problem p = decode_shape(batch, sq, most, heads_k * group, heads_k, head_dim, block_size, topk);
    if (between(0, 1) == 0) p.head_dim_v = 8 * between(1, 32);
    DecodeCase c = decode_case("seed " + std::to_string(seed), p, lengths, dtype, seed);
    c.page_size = between(0, 1) == 0 ? 0 : between(1, 40);
    return c;
}

}  // namespace

TEST_P(MobaConformance, SummariesAppendedToAreThoseOfTheWholeSequences) {
    const Target& target = GetParam();
    for (const Way& way : ways()) {
        DecodeCase c = decode_case("growing", decode_shape(4, 1, 90, 4, 2, 40, 12, 3), {0, 0, 0, 0}, target.dtype, 31);
        c = with_way(c, way);
        if (!taken(target, c)) continue;
        SCOPED_TRACE(c.name);
        std::vector<std::byte> kept = poisoned_centroids(c);
        for (const int appended : {1, 1, 9, 1, 2, 12, 13, 1, 30, 3}) {
            // Each sequence takes as many new keys or fewer, the last one none before the others are long.
            for (std::size_t b = 0; b < c.lengths.size(); ++b) {
                const int fewer = b == 3 && c.lengths[0] < 25 ? appended : static_cast<int>(b % 3);
                c.lengths[b] += std::max(appended - fewer, 0);
            }
            c.page_size = c.page_size == 0 ? 5 : 0;
            const Decoded step = run_append(target, c, appended, kept);
            ASSERT_TRUE(step.status.ok()) << step.status.message;
            kept = step.centroids;
            ASSERT_TRUE(same_bits(kept, computed_centroids(target, c))) << "at length " << c.lengths[0];
        }
    }
}

TEST_P(MobaConformance, StepsAreTheLastRowsOfWholeSequences) {
    const Target& target = GetParam();
    for (const DecodeCase& plain : decode_cases(target.dtype)) {
        for (const Way& way : ways()) {
            DecodeCase c = with_way(plain, way);
            if (!taken(target, c)) continue;
            judge_step(target, c, false);
            make_whole(c, 5);
            c.page_size = 24;
            judge_step(target, c, true);
        }
    }
}

TEST_P(MobaConformance, StepsWithValuesOfAnotherWidth) {
    const Target& target = GetParam();
    for (DecodeCase c : other_value_dims_of_a_step(target.dtype)) {
        ASSERT_TRUE(taken(target, c)) << c.name;
        judge_step(target, c, false);
        c.page_size = 24;
        judge_step(target, c, false);
    }
}

TEST_P(MobaConformance, StepsOfRandomShapes) {
    const Target& target = GetParam();
    const unsigned seed = std::random_device{}() % 1000000;
    std::printf("decode shapes of seeds %u to %u\n", seed, seed + 19);
    const std::vector<Way> all = ways();
    for (unsigned i = 0; i < 20; ++i) {
        DecodeCase c = with_way(random_case(target.dtype, seed + i), all[i % all.size()]);
        if (taken(target, c)) judge_step(target, c, false);
    }
}

TEST_P(MobaConformance, PagesChangeNoBit) {
    const Target& target = GetParam();
    std::vector<DecodeCase> cases = decode_cases(target.dtype);
    for (const DecodeCase& c : other_value_dims_of_a_step(target.dtype)) cases.push_back(c);
    for (DecodeCase& c : cases) {
        const Decoded plain = run_decode(target, c, c.p.seqlen_k, poisoned_centroids(c));
        ASSERT_TRUE(plain.status.ok()) << plain.status.message;
        for (const std::int64_t page_size :
             {std::int64_t{1}, std::int64_t{7}, std::int64_t{16}, 3 * c.p.block_size, std::int64_t{5000}}) {
            c.page_size = page_size;
            const Decoded paged = run_decode(target, c, c.p.seqlen_k, poisoned_centroids(c));
            ASSERT_TRUE(paged.status.ok()) << paged.status.message;
            EXPECT_TRUE(same_bits(paged.centroids, plain.centroids)) << c.name << ", pages of " << page_size;
            EXPECT_EQ(paged.routing.selection, plain.routing.selection) << c.name << ", pages of " << page_size;
            EXPECT_TRUE(same_bits(paged.attention.out, plain.attention.out)) << c.name << ", pages of " << page_size;
            EXPECT_TRUE(same_bits(paged.attention.lse, plain.attention.lse)) << c.name << ", pages of " << page_size;
        }
    }
}

TEST_P(MobaConformance, StepsRepeatBitForBit) {
    const Target& target = GetParam();
    const DecodeCase c =
        decode_case("repeated", decode_shape(2, 2, 900, 6, 2, 64, 16, 20), {900, 333}, target.dtype, 41);
    const Decoded first = run_decode(target, c, 1000, poisoned_centroids(c));
    ASSERT_TRUE(first.status.ok()) << first.status.message;
    for (int i = 1; i < target.repeats; ++i) {
        const Decoded next = run_decode(target, c, 1000, poisoned_centroids(c));
        EXPECT_TRUE(same_bits(next.centroids, first.centroids));
        EXPECT_EQ(next.routing.selection, first.routing.selection);
        EXPECT_TRUE(same_bits(next.attention.out, first.attention.out));
        EXPECT_TRUE(same_bits(next.attention.lse, first.attention.lse));
    }
}

TEST_P(MobaConformance, SelectionsOfAStepAreSets) {
    const Target& target = GetParam();
    const DecodeCase c = decode_case("sets", decode_shape(2, 2, 160, 2, 1, 64, 16, 5), {160, 100}, target.dtype, 44);
    // Own blocks are 9 and 6: later blocks, own ones, doubled and negative entries change nothing.
    std::vector<std::int32_t> clean, dirty;
    for (std::int64_t row = 0; row < c.p.heads_q * c.p.tokens_q(); ++row) {
        const bool longer = row % c.p.tokens_q() < c.p.seqlen_q;
        for (const int block : {2, 0, -1, -1}) clean.push_back(block);
        for (const int block : {2, longer ? 9 : 6, 2, 0}) dirty.push_back(block);
        if (longer) std::swap(dirty[dirty.size() - 2], dirty[dirty.size() - 1]);
    }
    const Decoded want = run_decode_attention(target, c, clean);
    ASSERT_TRUE(want.status.ok()) << want.status.message;
    const Attention reference = reference_attention(c, clean);
    EXPECT_LE(relative_error(want.attention.out, reference.out), tolerance(target).forward);
    const Decoded got = run_decode_attention(target, c, dirty);
    expect_close(got.attention.lse, want.attention.lse, 1e-5);
    EXPECT_LE(relative_error(got.attention.out, want.attention.out), tolerance(target).forward);
    // Not to attend to block 2 is another result.
    std::replace(clean.begin(), clean.end(), 2, -1);
    EXPECT_GT(relative_error(run_decode_attention(target, c, clean).attention.out, want.attention.out), 0.1);
}

TEST_P(MobaConformance, ANaNKeyRanksFirstInAStepAndChangesNoOtherSequence) {
    const Target& target = GetParam();
    for (const Way& way : ways()) {
        DecodeCase c = decode_case("NaN", decode_shape(2, 1, 320, 2, 1, 64, 16, 3), {320, 320}, target.dtype, 47);
        c = with_way(c, way);
        if (!taken(target, c) || way.keep_first || way.scorer.kind == ScorerKind::random) continue;
        SCOPED_TRACE(c.name);
        const Decoded plain = run_decode(target, c, 320, poisoned_centroids(c));
        ASSERT_TRUE(plain.status.ok()) << plain.status.message;
        constexpr std::int64_t block = 4, key = 9;  // of the third of four sub-blocks
        c.k[static_cast<std::size_t>((block * 16 + key) * 64 + 5)] = std::numeric_limits<float>::quiet_NaN();
        const Decoded step = run_decode(target, c, 320, poisoned_centroids(c));
        const auto slots = static_cast<std::size_t>(c.p.routed());
        for (std::size_t head = 0; head < 2; ++head) {
            EXPECT_EQ(step.routing.selection[head * 2 * slots], block);
            EXPECT_TRUE(std::isnan(step.attention.lse[head * 2]));
            EXPECT_EQ(step.attention.lse[head * 2 + 1], plain.attention.lse[head * 2 + 1]);
            EXPECT_TRUE(std::isnan(step.attention.out[head * 64]));
        }
        for (std::size_t i = 128; i < 256; ++i) EXPECT_EQ(step.attention.out[i], plain.attention.out[i]);
    }
}

TEST_P(MobaConformance, ScoresOfMinusInfinityAreNoCandidatesOfAStep) {
    const Target& target = GetParam();
    DecodeCase c = decode_case("infinite", decode_shape(1, 1, 100, 1, 1, 64, 16, 4), {100}, target.dtype, 50);
    std::fill(c.q.begin(), c.q.end(), 1.0F);
    for (const std::int64_t block : {1, 2, 3, 4, 5}) {
        const float key = block == 3 ? infinity : -infinity;
        c.k[static_cast<std::size_t>(block * 16 * 64)] = key;
    }
    const std::vector<std::byte> kept = computed_centroids(target, c);
    const Decoded routed = run_decode_route(target, c, kept);
    ASSERT_TRUE(routed.status.ok()) << routed.status.message;
    EXPECT_EQ(routed.routing.selection, (std::vector<std::int32_t>{3, 0, -1}));
    EXPECT_EQ(routed.routing.scores[0], infinity);
    EXPECT_EQ(routed.routing.scores[2], -infinity);
}

}  // namespace mobalab::kernels::conformance
