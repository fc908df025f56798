#include "tests/kernels/conformance/scorer_definition.h"

#include <algorithm>
#include <cmath>

#include "kernels/scorers/hash_score.h"
#include "tests/kernels/conformance/score_rounding.h"

namespace mobalab::kernels::conformance {
namespace {

double of_query(ScorerKind kind, std::size_t part, double q) {
    if (kind != ScorerKind::quest) return q;
    return part == 0 ? std::max(q, 0.0) : std::min(q, 0.0);
}

}  // namespace

std::vector<Kept> kept_by(ScorerKind kind) {
    switch (kind) {
        case ScorerKind::mean:
        case ScorerKind::submean:
            return {Kept::mean};
        case ScorerKind::max:
            return {Kept::largest};
        case ScorerKind::quest:
            return {Kept::largest, Kept::smallest};
        case ScorerKind::random:
            return {};
    }
    ADD_FAILURE() << "this test knows no definition of scorer " << static_cast<int>(kind);
    return {};
}

std::size_t summary_at(const Problem& p, std::int64_t part, std::int64_t sub_block, std::int64_t head) {
    return static_cast<std::size_t>(
        ((sub_block * static_cast<std::int64_t>(kept_by(p.scorer.kind).size()) + part) * p.heads_k + head) *
        p.head_dim);
}

Score exact_score(const Case& c, const std::vector<float>& summaries, const cpu::Sequence& s, std::int64_t head,
                  std::int64_t row, std::int64_t block) {
    const Problem& p = c.p;
    const Problem host = c.host_problem();
    const std::size_t parts = kept_by(p.scorer.kind).size();
    Score best;
    if (parts == 0) {
        best.value = hash_score(hash_of_query(p.scorer.seed, s.number, head, row + s.keys - s.queries), block);
        return best;
    }
    const float* q = c.q.data() + ((s.q_begin + row) * p.heads_q + head) * p.head_dim;
    const std::int64_t length = p.block_size / p.scorer.sub_blocks;
    for (std::int64_t i = 0; i < p.scorer.sub_blocks; ++i) {
        if (block * p.block_size + i * length >= s.keys) break;  // nothing is there
        double value = 0.0;
        double magnitude = 0.0;
        for (std::size_t part = 0; part < parts; ++part) {
            const float* summary = summaries.data() + summary_at(host, static_cast<std::int64_t>(part),
                                                                 (s.block_begin + block) * p.scorer.sub_blocks + i,
                                                                 head / (p.heads_q / p.heads_k));
            for (std::int64_t e = 0; e < p.head_dim; ++e) {
                const double term = of_query(p.scorer.kind, part, q[e]) * summary[e];
                value += term;
                magnitude += std::abs(term);
            }
        }
        best.value = std::max(best.value, value);
        best.error = std::max(best.error, magnitude * score_error(p, p.head_dim * static_cast<std::int64_t>(parts)));
    }
    return best;
}

std::vector<Scorer> scorers_for(const Problem& p) {
    std::vector<Scorer> scorers;
    for (int number = 0; find_scorer(static_cast<ScorerKind>(number)) != nullptr; ++number) {
        const auto kind = static_cast<ScorerKind>(number);
        scorers.push_back({kind, 1, 7});
        for (const std::int64_t sub_blocks : {std::int64_t{2}, std::int64_t{4}, p.block_size}) {
            const bool new_one = sub_blocks > scorers.back().sub_blocks && p.block_size % sub_blocks == 0;
            if (find_scorer(kind)->divides && new_one) scorers.push_back({kind, sub_blocks, 0});
        }
    }
    return scorers;
}

std::string name_of(const Scorer& scorer) {
    return std::string(find_scorer(scorer.kind)->name) + " " + std::to_string(scorer.sub_blocks);
}

}  // namespace mobalab::kernels::conformance
