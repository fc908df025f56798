#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "analysis/scorers/scorers.h"

namespace mobalab::analysis {

struct KeyModelDefinition;
struct LogHitMiss;
struct NormalSignal;
struct RoutingPoint;

// How a query scores a block, as kernels/scorer.h has it for tensors:
//
//     score(q, block) = max over the block's sub-blocks s of  sum over parts p of  phi_p(q) . psi_p(s)

/// phi: what becomes of each channel of the query: q, max(q, 0), min(q, 0).
enum class QueryMap { identity, positive_part, negative_part };

/// psi: what is kept of each channel of a sub-block's keys.
enum class Summary { mean, maximum, minimum };

struct ScorePart {
    QueryMap map = QueryMap::identity;
    Summary summary = Summary::mean;
};

inline constexpr int most_score_parts = 2;

/// The exact law of what a scorer finds.
struct ScorerLaw {
    /// Why the law of this valid point, of this model, is not known, in one line with the nearest choices; empty where
    /// it is known.
    std::string (*trouble)(const RoutingPoint& point, const KeyModelDefinition& model);
    /// Logs of P(`found` or more of the needles are routed) and of its complement, where the law is known, found in
    /// [1, min(R, K)] and n_c >= K - found + 1 (elsewhere the answer is certain).
    LogHitMiss (*found_at_least)(const RoutingPoint& point, std::int64_t found);
};

/// One scorer; each is a file of analysis/scorers/.
struct ScorerDefinition {
    std::string_view name;
    int parts = 1;  ///< 0: looks at no key, every order of the blocks is equally likely
    std::array<ScorePart, most_score_parts> part = {};
    bool divides = false;            ///< Scorer::sub_blocks may be above 1
    const ScorerLaw* law = nullptr;  ///< none: no exact probability, its columns are missing values
    /// A signal block's score where all scores are taken for normal (analysis/scorer_approximation.h). None: no such
    /// approximation.
    NormalSignal (*approximation)(const RoutingPoint& point) = nullptr;

    /// Whether scores follow from the affinities q.k alone (sums and maxima of them), without the keys' coordinates.
    constexpr bool knows_affinities_only() const {
        return parts == 1 && part[0].map == QueryMap::identity && part[0].summary == Summary::mean;
    }
};

#define MOBALAB_SCORER_KIND(name) name,
enum class ScorerKind { MOBALAB_ANALYSIS_SCORERS(MOBALAB_SCORER_KIND) };
#undef MOBALAB_SCORER_KIND

const ScorerDefinition& definition_of(ScorerKind kind);

/// What a routing point asks for.
struct Scorer {
    ScorerKind kind = ScorerKind::mean;
    std::int64_t sub_blocks = 1;  ///< r in [1, B], divides B; above 1 only where the scorer divides blocks

    friend bool operator==(const Scorer&, const Scorer&) = default;
};

/// "mean", "quest", "max", "random", "submean-4".
std::string to_string(const Scorer& scorer);

/// Inverse of to_string(). Throws InputError naming the accepted names.
Scorer parse_scorer(std::string_view name);

/// What parse_scorer() takes, for messages and help: "mean, quest, max, submean-R, random".
std::string scorer_names();

/// Those of scorer_names() whose definition has a law, and an approximation.
std::string scorers_with_law();
std::string scorers_with_approximation();

}  // namespace mobalab::analysis
