#pragma once

#include <cstdint>
#include <functional>
#include <span>

namespace mobalab::analysis {

/// So many rows have so many candidate blocks (the target's among them).
struct CandidateRows {
    std::int64_t candidates = 0;  ///< at least 1
    double rows = 0.0;            ///< > 0; a number of rows or any weight
};

/// Mean of `hit` over the rows. Up to 64 different numbers of candidates are all asked for; of more, those a
/// factor of 1.04 apart (and both ends), with lines over log(candidates) between: hit probabilities are smooth there,
/// and the mean is right to 1e-3. Throws InputError: no rows, candidates < 1, rows that are not positive and finite.
double mean_over_rows(std::span<const CandidateRows> rows, const std::function<double(std::int64_t)>& hit);

}  // namespace mobalab::analysis
