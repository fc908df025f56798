// Queries without a block of their own: what they see, by plain loops, and what they must not trip over.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tests/kernels/conformance/scorer_definition.h"

namespace mobalab::kernels::conformance {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

Case not_causal(Case c) {
    c.p.causal = false;
    return c;
}

/// Softmax over the keys of a set of blocks, of one head and row.
struct Seen {
    std::vector<double> out;
    double lse = infinity;
};

Seen attend(const Case& c, const cpu::Sequence& s, std::int64_t head, std::int64_t row,
            const std::set<std::int32_t>& blocks) {
    const Problem& p = c.p;
    const auto d = static_cast<std::size_t>(p.head_dim);
    const auto row_of = [&](const std::vector<float>& tensor, std::int64_t token, std::int64_t heads, std::int64_t h) {
        return tensor.data() + static_cast<std::size_t>(token * heads + h) * d;
    };
    const std::int64_t head_k = head / (p.heads_q / p.heads_k);
    const float* q = row_of(c.q, s.q_begin + row, p.heads_q, head);
    Seen seen = {std::vector<double>(d), infinity};
    double sum = 0.0;
    for (const std::int32_t block : blocks) {
        const std::int64_t end = std::min((block + 1) * p.block_size, s.keys);
        for (std::int64_t key = block * p.block_size; key < end; ++key) {
            const float* k = row_of(c.k, s.k_begin + key, p.heads_k, head_k);
            const float* v = row_of(c.v, s.k_begin + key, p.heads_k, head_k);
            double score = 0.0;
            for (std::size_t i = 0; i < d; ++i) score += static_cast<double>(q[i]) * k[i];
            const double weight = std::exp(score / std::sqrt(static_cast<double>(p.head_dim)));
            sum += weight;
            for (std::size_t i = 0; i < d; ++i) seen.out[i] += weight * v[i];
        }
    }
    if (sum == 0.0) return seen;
    for (double& x : seen.out) x /= sum;
    seen.lse = std::log(sum);
    return seen;
}

/// Of one element of values of order 1: several times what the relative error of all of them may be.
double bound(const Target& target) {
    return 6.0 * tolerance(target).forward + 1e-5;
}

void judge(const Target& target, const Case& c, const Attention& got) {
    const Problem p = c.host_problem();
    for_each_row(p, [&](const cpu::Sequence& s, std::int64_t head, std::int64_t row, std::size_t at) {
        std::set<std::int32_t> blocks;
        for (std::int64_t slot = 0; slot < p.routed(); ++slot) {
            const std::int32_t block = got.selection[at + static_cast<std::size_t>(slot)];
            if (block >= 0 && block < s.blocks) blocks.insert(block);
        }
        const Seen want = attend(c, s, head, row, blocks);
        const auto token = static_cast<std::size_t>(s.q_begin + row), h = static_cast<std::size_t>(head);
        const float lse = got.lse[h * static_cast<std::size_t>(p.tokens_q()) + token];
        ASSERT_EQ(lse == infinity, blocks.empty()) << "row " << row;
        if (lse != infinity) {
            ASSERT_NEAR(lse, want.lse, tolerance(target).lse) << "row " << row;
        }
        const auto d = static_cast<std::size_t>(p.head_dim);
        const float* out = got.out.data() + (token * static_cast<std::size_t>(p.heads_q) + h) * d;
        for (std::size_t i = 0; i < d; ++i) {
            const double allowed = blocks.empty() ? 0.0 : bound(target);
            ASSERT_NEAR(out[i], want.out[i], allowed) << "row " << row << ", element " << i;
        }
    });
}

}  // namespace

TEST_P(MobaConformance, NotCausalQueriesSeeWholeBlocks) {
    for (const Case& c : non_causal_cases(GetParam().dtype)) {
        SCOPED_TRACE(c.name);
        const Attention got = run_moba(GetParam(), c);
        ASSERT_TRUE(got.status.ok()) << got.status.message;
        ASSERT_NO_FATAL_FAILURE(judge(GetParam(), c, got));
    }
}

/// Any blocks are candidates, the one at the row's place and later ones; names of none are ignored, doubles count once.
TEST_P(MobaConformance, NotCausalSelectionsAreSetsOfBlocks) {
    for (const std::int64_t topk : {3, 70}) {
        const Case c = not_causal(make_case("given", shape(2, 90, 150, 2, 1, 64, 2, topk), GetParam().dtype, 151));
        const auto routed = static_cast<std::size_t>(topk);
        std::vector<std::int32_t> selection(2 * 180 * routed, -1);
        for (std::size_t row = 0; row < 2 * 180; ++row) {
            if (row % 7 == 0) continue;  // nothing at all
            selection[row * routed] = static_cast<std::int32_t>(row % 75);
            selection[row * routed + 1] = static_cast<std::int32_t>(row % 2 == 0 ? row % 75 : 74);
            selection[row * routed + 2] = row % 3 == 0 ? 75 : row % 3 == 1 ? 2000000000 : -5;
        }
        Attention got = run_attention(GetParam(), c, selection);
        ASSERT_TRUE(got.status.ok()) << got.status.message;
        got.selection = selection;
        ASSERT_NO_FATAL_FAILURE(judge(GetParam(), c, got));
        const Gradients gradients = run_backward(GetParam(), c, got, selection);
        ASSERT_TRUE(gradients.status.ok()) << gradients.status.message;
        for (std::size_t row = 0; row < 2 * 180; row += 7) {  // [heads, tokens] of the selection
            const std::size_t head = row / 180, token = row % 180;
            for (std::size_t i = 0; i < 64; ++i) ASSERT_EQ(gradients.dq[(token * 2 + head) * 64 + i], 0.0F);
        }
    }
}

/// A block that nobody selects has no gradient, and no other block's values in it.
TEST_P(MobaConformance, NotCausalBlocksThatNobodySelectsHaveNoGradient) {
    const Case c = not_causal(make_case("unselected", shape(1, 100, 300, 1, 1, 64, 64, 2), GetParam().dtype, 152));
    std::vector<std::int32_t> selection;
    for (int row = 0; row < 100; ++row) selection.insert(selection.end(), {4, 1});
    const Attention got = run_attention(GetParam(), c, selection);
    ASSERT_TRUE(got.status.ok()) << got.status.message;
    const Gradients gradients = run_backward(GetParam(), c, got, selection);
    ASSERT_TRUE(gradients.status.ok()) << gradients.status.message;
    for (std::size_t key = 0; key < 300; ++key) {
        const bool selected = key / 64 == 4 || key / 64 == 1;
        const auto begin = static_cast<std::ptrdiff_t>(key * 64);
        const auto is_zero = [](float x) { return x == 0.0F; };
        ASSERT_EQ(std::all_of(gradients.dv.begin() + begin, gradients.dv.begin() + begin + 64, is_zero), !selected)
            << "key " << key;
        ASSERT_EQ(std::all_of(gradients.dk.begin() + begin, gradients.dk.begin() + begin + 64, is_zero), !selected)
            << "key " << key;
    }
}

}  // namespace mobalab::kernels::conformance
