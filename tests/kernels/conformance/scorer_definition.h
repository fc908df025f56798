#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/sequences.h"
#include "tests/kernels/conformance/moba_conformance.h"

// What a scorer is, by name and not by the table of kernels/scorers: plain loops in double precision.
namespace mobalab::kernels::conformance {

enum class Kept { mean, largest, smallest };

/// What a scorer keeps of the keys, part after part.
std::vector<Kept> kept_by(ScorerKind kind);

/// Index of [sub_blocks, parts, heads_k, head_dim].
std::size_t summary_at(const Problem& p, std::int64_t part, std::int64_t sub_block, std::int64_t head);

/// The exact score of a block and how far fp32 accumulation may be from it.
struct Score {
    double value = -std::numeric_limits<double>::infinity(), error = 0.0;
};

/// summaries: what compute_centroids() wrote, or should have.
Score exact_score(const Case& c, const std::vector<float>& summaries, const cpu::Sequence& s, std::int64_t head,
                  std::int64_t row, std::int64_t block);

/// Every scorer with every kind of r that divides this block size: 1, 2, small, that of single keys.
std::vector<Scorer> scorers_for(const Problem& p);

std::string name_of(const Scorer& scorer);

/// Calls visit(case) for every case and scorer the target supports, and says which the CPU does not: all must be.
template <typename Visit>
void for_each_scorer(const Target& target, Operation operation, std::vector<Case> cases, const Visit& visit) {
    int run = 0;
    for (Case& c : cases) {
        for (const Scorer& scorer : scorers_for(c.p)) {
            c.p.scorer = scorer;
            SCOPED_TRACE(c.name + ", " + name_of(scorer));
            const Status taken = supported(operation, c.host_problem(), target.backend);
            if (!taken.ok()) {
                EXPECT_EQ(taken.code, StatusCode::unsupported) << taken.message;
                EXPECT_EQ(target.backend, Backend::cuda) << taken.message;
                continue;
            }
            ++run;
            visit(c);
            if (testing::Test::HasFatalFailure()) return;
        }
    }
    EXPECT_GT(run, 0);
}

/// Calls visit(sequence, head, row, at) for every query row; `at` is its first entry in a selection.
template <typename Visit>
void for_each_row(const Problem& p, const Visit& visit) {
    for (const cpu::Sequence& s : cpu::sequences_of(p)) {
        for (std::int64_t head = 0; head < p.heads_q; ++head) {
            for (std::int64_t row = 0; row < s.queries; ++row) {
                if (testing::Test::HasFatalFailure()) return;  // one row's story is enough
                visit(s, head, row, static_cast<std::size_t>((head * p.tokens_q() + s.q_begin + row) * p.routed()));
            }
        }
    }
}

}  // namespace mobalab::kernels::conformance
