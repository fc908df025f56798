#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/scorer.h"
#include "kernels/scorers/hash_score.h"

// The scores of kernels/scorer.h in double precision, by its words alone.
namespace mobalab::kernels::testing_support {

/// The larger, or the smaller; NaN if one is.
inline double extreme(Summary summary, double a, double b) {
    if (std::isnan(a) || std::isnan(b)) return NAN;
    return summary == Summary::maximum ? std::max(a, b) : std::min(a, b);
}

inline double mapped(QueryMap map, double q) {
    if (std::isnan(q) || map == QueryMap::identity) return q;
    return map == QueryMap::positive_part ? std::max(q, 0.0) : std::min(q, 0.0);
}

/// Scores of a row's candidates, and the largest finite sum |phi psi|, the scale of rounding errors.
struct ExactRow {
    std::vector<double> score;
    double magnitude = 0.0;
    std::int64_t products = 0;  ///< of a score

    /// The tensor cores truncate when they align products; 2^-19 of the magnitude covers 256 additions.
    double slack() const { return magnitude * 0x1p-19 * std::max(1.0, static_cast<double>(products) / 256.0); }
};

/// Of the sub-blocks [0, candidates * scorer.sub_blocks) those below sub_blocks have keys. kept(part, sub-block of the
/// sequence): pointer to head_dim values.
template <typename Kept>
ExactRow exact_row(const Scorer& scorer, std::int64_t head_dim, const float* q, std::int64_t candidates,
                   std::int64_t sub_blocks, const Kept& kept) {
    const ScorerDefinition& definition = *find_scorer(scorer.kind);
    ExactRow row;
    row.products = head_dim * definition.parts;
    for (std::int64_t j = 0; j < candidates; ++j) {
        double best = 0.0;
        for (std::int64_t s = 0; s < scorer.sub_blocks && j * scorer.sub_blocks + s < sub_blocks; ++s) {
            double sum = 0.0, magnitude = 0.0;
            for (int part = 0; part < definition.parts; ++part) {
                const QueryMap map = definition.part[static_cast<std::size_t>(part)].map;
                const float* psi = kept(part, j * scorer.sub_blocks + s);
                for (std::int64_t e = 0; e < head_dim; ++e) {
                    const double product = mapped(map, q[e]) * psi[e];
                    sum += product;
                    magnitude += std::fabs(product);
                }
            }
            best = s == 0 ? sum : extreme(Summary::maximum, best, sum);
            if (std::isfinite(magnitude)) row.magnitude = std::max(row.magnitude, magnitude);
        }
        row.score.push_back(best);
    }
    return row;
}

/// Of a scorer without parts.
inline ExactRow hashed_row(const Scorer& scorer, std::int64_t sequence, std::int64_t head, std::int64_t position,
                           std::int64_t candidates) {
    const std::uint64_t query = hash_of_query(scorer.seed, sequence, head, position);
    ExactRow row;
    for (std::int64_t j = 0; j < candidates; ++j) row.score.push_back(hash_score(query, j));
    return row;
}

}  // namespace mobalab::kernels::testing_support
