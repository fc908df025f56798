// What selections, NaN, infinities and large topk mean: the same on every backend.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <set>

#include "kernels/cpu/reference.h"
#include "kernels/cpu/sequences.h"
#include "tests/kernels/conformance/moba_conformance.h"

namespace mobalab::kernels::conformance {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// Calls visit(batch, head, position, row): row counts [heads_q, tokens_q].
template <typename Visit>
void for_each_query(const Problem& p, const Visit& visit) {
    for (std::int64_t head = 0; head < p.heads_q; ++head) {
        for (std::int64_t b = 0; b < p.batch; ++b) {
            for (std::int64_t r = 0; r < p.seqlen_q; ++r) {
                visit(b, head, r + p.seqlen_k - p.seqlen_q,
                      static_cast<std::size_t>((head * p.batch + b) * p.seqlen_q + r));
            }
        }
    }
}

/// Entries that no row may select beside some that it may, and those twice.
std::vector<std::int32_t> hostile_selection(const Problem& p, std::mt19937& engine) {
    constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min();
    constexpr std::int32_t highest = std::numeric_limits<std::int32_t>::max();
    const auto routed = static_cast<std::size_t>(p.routed());
    std::vector<std::int32_t> selection(static_cast<std::size_t>(p.heads_q * p.tokens_q()) * routed);
    for_each_query(p, [&](std::int64_t, std::int64_t, std::int64_t position, std::size_t row) {
        const auto own = static_cast<std::int32_t>(position / p.block_size);
        const auto blocks = static_cast<std::int32_t>(p.longest_blocks());
        const std::vector<std::int32_t> bad = {-1, -7, lowest, highest, own, own + 1, blocks - 1, blocks, blocks + 64};
        for (std::size_t slot = 0; slot < routed; ++slot) {
            std::int32_t& entry = selection[row * routed + slot];
            const auto draw = engine() % 4;
            if (draw == 0) {
                entry = bad[engine() % bad.size()];
            } else if (draw == 1 && slot > 0) {
                entry = selection[row * routed + engine() % slot];
            } else {
                entry = static_cast<std::int32_t>(engine() % static_cast<std::uint32_t>(blocks));
            }
        }
    });
    return selection;
}

/// The same sets, as route() could have written them.
std::vector<std::int32_t> cleaned(const Problem& p, const std::vector<std::int32_t>& selection) {
    const auto routed = static_cast<std::size_t>(p.routed());
    std::vector<std::int32_t> clean(selection.size(), -1);
    for_each_query(p, [&](std::int64_t, std::int64_t, std::int64_t position, std::size_t row) {
        std::set<std::int32_t> kept;
        for (std::size_t slot = 0; slot < routed; ++slot) {
            const std::int32_t block = selection[row * routed + slot];
            if (block >= 0 && block < position / p.block_size) kept.insert(block);
        }
        std::copy(kept.begin(), kept.end(), clean.begin() + static_cast<std::ptrdiff_t>(row * routed));
    });
    return clean;
}

template <typename T>
void expect_same_bits(const std::vector<T>& got, const std::vector<T>& want, const char* what) {
    ASSERT_EQ(got.size(), want.size()) << what;
    EXPECT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(T)), 0) << what;
}

double relative_error(const std::vector<float>& got, const std::vector<double>& want) {
    double difference = 0.0;
    double norm = 0.0;
    for (std::size_t i = 0; i < want.size(); ++i) {
        difference += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return std::sqrt(difference / norm);
}

/// One row of results: its slots, its head_dim outputs and its lse.
struct Row {
    const std::int32_t* selection;
    const float* out;
    float lse;
};
Row row_of(const Case& c, const Attention& a, std::int64_t b, std::int64_t head, std::size_t row) {
    const auto token = static_cast<std::int64_t>(row) - head * c.p.tokens_q();
    EXPECT_EQ(token / c.p.seqlen_q, b);
    return {a.selection.data() + row * static_cast<std::size_t>(c.p.routed()),
            a.out.data() + (token * c.p.heads_q + head) * c.p.head_dim, a.lse[row]};
}
bool same_row(const Case& c, const Row& a, const Row& b) {
    const auto slots = static_cast<std::size_t>(c.p.routed());
    const auto d = static_cast<std::size_t>(c.p.head_dim);
    return std::memcmp(a.selection, b.selection, slots * sizeof(std::int32_t)) == 0 &&
           std::memcmp(a.out, b.out, d * sizeof(float)) == 0 && std::memcmp(&a.lse, &b.lse, sizeof(float)) == 0;
}

/// Key `token` of head 0 of sequence 0, element 5.
float& key_element(Case& c, std::int64_t token) {
    return c.k[static_cast<std::size_t>(token * c.p.heads_k * c.p.head_dim + 5)];
}

/// Who may look at one changed key: rows of its key head and sequence, as a candidate or in their own block.
struct Reach {
    const Problem& p;
    std::int64_t token;

    std::int32_t block() const { return static_cast<std::int32_t>(token / p.block_size); }
    bool here(std::int64_t b, std::int64_t head) const { return b == 0 && head / (p.heads_q / p.heads_k) == 0; }
    bool candidate(std::int64_t b, std::int64_t head, std::int64_t position) const {
        return here(b, head) && position / p.block_size > block();
    }
    bool sees(std::int64_t b, std::int64_t head, std::int64_t position) const {
        return here(b, head) && position / p.block_size == block() && position >= token;
    }
};

std::vector<Problem> poisoned_shapes() {
    return {shape(2, 300, 4, 2, 64, 32, 4),    shape(1, 500, 2, 2, 128, 128, 3), shape(1, 900, 1, 1, 64, 16, 30),
            shape(1, 1100, 1, 1, 256, 256, 2), shape(2, 300, 4, 2, 40, 32, 4),   shape(1, 500, 2, 2, 160, 128, 3),
            shape(1, 400, 2, 1, 64, 1, 20),    shape(1, 600, 2, 2, 128, 96, 3),  shape(1, 1000, 1, 1, 64, 300, 2)};
}

}  // namespace

TEST_P(MobaConformance, SelectionsAreSetsOfCandidates) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const std::vector<std::int64_t> block_sizes = {16, 100}, topks = {4};  // 16 pairs take over a minute
#else
    const std::vector<std::int64_t> block_sizes = {6, 16, 32, 48, 100, 128, 150, 256}, topks = {2, 4, 12, 40};
#endif
    std::mt19937 engine(2024);
    for (const std::int64_t block_size : block_sizes) {
        for (const std::int64_t topk : topks) {
            SCOPED_TRACE("block_size " + std::to_string(block_size) + ", topk " + std::to_string(topk));
            const Case c =
                make_case("hostile", shape(2, 3 * block_size + 150, 2, 1, 64, block_size, topk), GetParam().dtype, 50);
            const Problem p = c.host_problem();
            const std::vector<std::int32_t> hostile = hostile_selection(p, engine);
            const std::vector<std::int32_t> clean = cleaned(p, hostile);
            const Attention got = run_attention(GetParam(), c, hostile);
            const Attention want = run_attention(GetParam(), c, clean);
            ASSERT_TRUE(got.status.ok() && want.status.ok()) << got.status.message << want.status.message;
            expect_same_bits(got.out, want.out, "out");
            expect_same_bits(got.lse, want.lse, "lse");
            const Gradients gradients = run_backward(GetParam(), c, got, hostile);
            const Gradients of_clean = run_backward(GetParam(), c, want, clean);
            ASSERT_TRUE(gradients.status.ok()) << gradients.status.message;
            ASSERT_TRUE(of_clean.status.ok()) << of_clean.status.message;
            expect_same_bits(gradients.dq, of_clean.dq, "dq");
            expect_same_bits(gradients.dk, of_clean.dk, "dk");
            expect_same_bits(gradients.dv, of_clean.dv, "dv");

            if (topk != 4) continue;  // the judge is slow
            const auto wide = [](const std::vector<float>& x) { return std::vector<double>(x.begin(), x.end()); };
            const std::vector<double> q = wide(c.q);
            const std::vector<double> k = wide(c.k);
            const std::vector<double> v = wide(c.v);
            const reference::Attention exact = reference::attention_forward(
                p, reference::rows_of(q, p.heads_q, p.head_dim), reference::rows_of(k, p.heads_k, p.head_dim),
                reference::rows_of(v, p.heads_k, p.head_dim), clean.data());
            EXPECT_LE(relative_error(got.out, exact.out), tolerance(GetParam()).forward);
        }
    }
}

TEST_P(MobaConformance, ANaNKeyRanksFirstAndChangesNoOtherRow) {
    for (const Problem& p : poisoned_shapes()) {
        SCOPED_TRACE("block_size " + std::to_string(p.block_size) + ", topk " + std::to_string(p.topk));
        Case c = make_case("poisoned", p, GetParam().dtype, 51);
        const Attention before = run_moba(GetParam(), c);
        const Reach reach = {c.p, p.block_size + p.block_size / 2};
        key_element(c, reach.token) = nan;
        const Attention after = run_moba(GetParam(), c);
        const Routing routing = run_route(GetParam(), c);
        ASSERT_TRUE(before.status.ok() && after.status.ok()) << before.status.message << after.status.message;
        EXPECT_EQ(routing.selection, after.selection);
        int candidates = 0;
        int own = 0;
        for_each_query(c.p, [&](std::int64_t b, std::int64_t head, std::int64_t position, std::size_t row) {
            if (HasFatalFailure()) return;
            const Row was = row_of(c, before, b, head, row);
            const Row is = row_of(c, after, b, head, row);
            if (!reach.candidate(b, head, position) && !reach.sees(b, head, position)) {
                ASSERT_TRUE(same_row(c, is, was)) << "row " << row;
                return;
            }
            ASSERT_TRUE(std::isnan(is.lse)) << "row " << row;
            ASSERT_TRUE(std::all_of(is.out, is.out + c.p.head_dim, [](float x) { return std::isnan(x); })) << row;
            if (!reach.candidate(b, head, position)) {
                ++own;
                return;
            }
            ++candidates;
            ASSERT_EQ(is.selection[0], reach.block()) << "row " << row;
            ASSERT_TRUE(std::isnan(routing.scores[row * static_cast<std::size_t>(c.p.routed())])) << "row " << row;
        });
        EXPECT_GT(candidates, 0);
        EXPECT_GT(own, 0);
    }
}

/// Scores of +inf rank above all finite ones, those of -inf are no candidates.
TEST_P(MobaConformance, InfiniteScoresAreTheFirstOrNoCandidates) {
    for (const Centroids kept : {Centroids::input_dtype, Centroids::fp32}) {
        Case c = make_case("infinite", shape(2, 400, 4, 2, 64, 32, 4), GetParam().dtype, 52);
        c.p.centroids = kept;
        const Routing before = run_route(GetParam(), c);
        const Reach reach = {c.p, 100};
        key_element(c, reach.token) = infinity;
        const Routing after = run_route(GetParam(), c);
        ASSERT_TRUE(after.status.ok()) << after.status.message;
        for_each_query(c.p, [&](std::int64_t b, std::int64_t head, std::int64_t position, std::size_t row) {
            if (HasFatalFailure()) return;
            const std::int32_t* const is = after.selection.data() + row * 3;
            if (!reach.candidate(b, head, position)) {
                ASSERT_TRUE(std::equal(is, is + 3, before.selection.data() + row * 3)) << "row " << row;
                return;
            }
            const float q =
                c.q[static_cast<std::size_t>(((b * c.p.seqlen_q + position) * c.p.heads_q + head) * c.p.head_dim + 5)];
            if (q > 0.0F) {
                ASSERT_EQ(is[0], reach.block()) << "row " << row;
                ASSERT_EQ(after.scores[row * 3], infinity) << "row " << row;
            } else if (q < 0.0F) {
                ASSERT_EQ(std::count(is, is + 3, reach.block()), 0) << "row " << row;
            }
        });
    }
}

/// More NaN than any buffer holds: the highest blocks.
TEST_P(MobaConformance, AllScoresNaNKeepTheHighestBlocks) {
    for (const std::int64_t topk : {2, 8, 16, 40, 64}) {
        SCOPED_TRACE("topk " + std::to_string(topk));
        Case c = make_case("all NaN", shape(1, 16 * 150, 1, 1, 64, 16, topk), GetParam().dtype, 53);
        std::fill(c.k.begin(), c.k.end(), nan);
        const Routing routing = run_route(GetParam(), c);
        ASSERT_TRUE(routing.status.ok()) << routing.status.message;
        for (std::int64_t row = 0; row < c.p.seqlen_q; ++row) {
            for (std::int64_t slot = 0; slot < c.p.routed(); ++slot) {
                const std::int64_t want = std::max<std::int64_t>(row / 16 - 1 - slot, -1);
                ASSERT_EQ(routing.selection[static_cast<std::size_t>(row * c.p.routed() + slot)], want) << row;
            }
        }
    }
}

TEST_P(MobaConformance, TopKOfAllBlocksOrMoreKeepsAll) {
    Case c = make_case("all", shape(2, 230, 2, 1, 64, 32, 8), GetParam().dtype, 54);
    const Attention eight = run_moba(GetParam(), c);
    ASSERT_TRUE(eight.status.ok()) << eight.status.message;
    for (const std::int64_t topk : {9, 65, 1000000}) {
        c.p.topk = topk;
        EXPECT_EQ(c.p.routed(), 7);
        const Attention more = run_moba(GetParam(), c);
        ASSERT_TRUE(more.status.ok()) << more.status.message;
        expect_same_bits(more.selection, eight.selection, "selection");
        expect_same_bits(more.out, eight.out, "out");
        expect_same_bits(more.lse, eight.lse, "lse");
        const Gradients gradients = run_backward(GetParam(), c, more, more.selection);
        ASSERT_TRUE(gradients.status.ok()) << gradients.status.message;
    }
}

}  // namespace mobalab::kernels::conformance
