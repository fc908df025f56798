#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string_view>

#include "kernels/scorers/scorers.h"

namespace mobalab::kernels {

// How a query scores a block:
//
//     score(q, block) = max over the block's sub-blocks s of  sum over parts p of  phi_p(q) . psi_p(s)
//
// phi is a map of the query, psi a summary of the keys of a sub-block, both channel by channel. A block has one
// sub-block (itself) unless its scorer divides it; the score of one sub-block that is NaN makes its block's NaN.
// Everything else of routing (candidates, exact top-k, ties, NaN) is the same for every scorer.

/// phi: what becomes of each channel of the query. NaN stays NaN; the zero of a part times an infinite summary is NaN.
enum class QueryMap {
    identity,       ///< q
    positive_part,  ///< max(q, 0)
    negative_part,  ///< min(q, 0)
};

template <typename T>
constexpr T map_query(QueryMap map, T q) {
    switch (map) {
        case QueryMap::identity:
            return q;
        case QueryMap::positive_part:
            return q < T{0} ? T{0} : q;
        case QueryMap::negative_part:
            return q > T{0} ? T{0} : q;
    }
    return q;
}

/// psi: what is kept of each channel of the keys. The fp32 value is rounded like Problem::centroids says; a NaN among
/// the keys of a sub-block is kept.
enum class Summary { mean, maximum, minimum };

struct ScorePart {
    QueryMap map = QueryMap::identity;
    Summary summary = Summary::mean;
};

inline constexpr int max_score_parts = 2;

/// One scorer; each is a file of kernels/scorers/.
struct ScorerDefinition {
    std::string_view name;  ///< a literal, so it ends with a zero
    int parts = 1;          ///< 0: scores are hashes (scorers/hash_score.h) and no tensor is looked at
    std::array<ScorePart, max_score_parts> part = {};
    bool divides = false;  ///< Scorer::sub_blocks may be above 1
};

#define MOBALAB_SCORER_KIND(name) name,
enum class ScorerKind { MOBALAB_SCORERS(MOBALAB_SCORER_KIND) };
#undef MOBALAB_SCORER_KIND

/// Of a value of the enumeration; nullptr for any other number.
const ScorerDefinition* find_scorer(ScorerKind kind);

/// Its parts; 0 for a number that is no scorer.
std::int64_t parts_of(ScorerKind kind);

/// What a problem asks for.
struct Scorer {
    ScorerKind kind = ScorerKind::mean;
    std::int64_t sub_blocks = 1;  ///< r of submean: divides the block size; 1 for scorers that do not divide
    std::uint64_t seed = 0;       ///< of random; others ignore it

    friend auto operator<=>(const Scorer&, const Scorer&) = default;
};

}  // namespace mobalab::kernels
