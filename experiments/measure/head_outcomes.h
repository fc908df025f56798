#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace mobalab::experiments {

// What a meter finds for the rows of one head. Everywhere below: row r stands at position t, w is the softmax over keys
// 0 ... t of scale q . k (the whole softmax is 1), its own block is b = t / B, its candidates are blocks 0 ... b - 1,
// and of those a router keeps K = topk - 1, or all of them where there are fewer.

/// How blocks are scored.
struct ScoreSetting {
    std::int64_t block_size = 0;
    std::string router;  ///< a name of routers() (router.h)
    std::int64_t sub_blocks = 1;
    kernels::Centroids centroids = kernels::Centroids::input_dtype;  ///< of the kernels' scorers

    friend auto operator<=>(const ScoreSetting&, const ScoreSetting&) = default;
};

/// And how many of them are kept.
struct RouteSetting {
    ScoreSetting score;
    std::int64_t topk = 0;  ///< own block included, at least 1
    bool keep_first = false;

    friend auto operator<=>(const RouteSetting&, const RouteSetting&) = default;
};

/// Of one block size, whatever routes. One entry a row.
struct BlockOutcomes {
    std::vector<float> past_mass;          ///< mass of the candidates
    std::vector<float> past_mass_no0;      ///< the same without token 0
    std::vector<float> first_mass;         ///< mass of block 0 where it is a candidate, else 0
    std::vector<float> first_mass_no0;     ///< the same without token 0
    std::vector<std::int32_t> needle_key;  ///< key of the largest q . k (the lowest of equals) among 1 ... (b - 2) B -
                                           ///< 1; -1: there is no such key
};

/// Standardised scores added up by the distance b - j of the candidate (index 0 is never used).
struct DistanceSums {
    std::vector<std::int64_t> count;
    std::vector<double> sum;  ///< of (S_j - mean) / deviation, of the scores of all candidates of the row
};

/// Of one ScoreSetting whose router has scores (Router::scored), S_j the score it ranks block j by. One entry a row,
/// NaN where the row has fewer than three candidates or a spread of 0.
struct ScoreOutcomes {
    std::vector<float> deviation;     ///< of the candidates' scores, population standard deviation
    std::vector<float> needle_score;  ///< s_j of the needle's block; NaN too where there is no needle. s_j = (S_j -
                                      ///< mean) / deviation of the scores of the candidates other than j
    std::vector<float> mass_score;    ///< sum_j M_j s_j / sum_j M_j over the candidates, M_j the mass of j; those
                                      ///< whose others have a spread of 0 are left out
    std::vector<float> mass_score_squared;  ///< the same of s_j^2
    DistanceSums distances;                 ///< over the rows that have an entry above
};

/// Of one RouteSetting. One entry a row.
struct RowOutcomes {
    std::int64_t slots = 0;               ///< of a row of `selection`: topk - 1, or fewer where no row has so many
    std::vector<std::int32_t> selection;  ///< [rows, slots]: the routed blocks as kernels::route() writes them, best
                                          ///< first (keep_first: block 0 first), -1 past their number
    std::vector<float> routed_mass;       ///< mass of the routed blocks
    std::vector<float> routed_mass_no0;   ///< the same without token 0
    std::vector<float> margin;  ///< score of the lowest-ranked routed block (a kept block 0 has no rank) minus that of
                                ///< the best one left out, over ScoreOutcomes::deviation; NaN where either is missing
                                ///< or the deviation is; empty: the router has no scores
    std::vector<std::int8_t> rounding_changed;  ///< 1: with Centroids::fp32 another set would be routed; empty: nothing
                                                ///< was rounded (fp32 keys, unrounded summaries, reference routers)
    std::vector<float> output_error;            ///< |out - dense|^2, out the attention over own and routed blocks,
                                                ///< dense that over all; empty: the head has no values
};

/// Of one head, or of a stretch of its rows.
struct HeadOutcomes {
    std::int64_t rows = 0;
    std::int64_t q_start = 0;
    std::vector<std::int32_t> distant_key;         ///< as needle_key, among keys 1 ... t - 1025
    std::vector<float> dense_norm;                 ///< |dense|^2; empty: the head has no values
    std::map<std::int64_t, BlockOutcomes> blocks;  ///< of every block size of the settings
    std::map<ScoreSetting, ScoreOutcomes> scores;  ///< of every score setting with scores
    std::vector<RowOutcomes> settings;             ///< in the order of the settings asked for
};

}  // namespace mobalab::experiments
