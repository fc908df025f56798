#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace mobalab::experiments {

/// Rows of numbers.
using Rows = std::vector<std::vector<double>>;

/// One query head, everything of it in double.
struct JudgedHead {
    Rows q;  ///< row r stands at q_start + r
    Rows k;
    Rows v;
    std::int64_t q_start = 0;
    double scale = 0.0;
    std::vector<std::pair<std::int64_t, std::int64_t>> facts;  ///< (query, key), positions
    bool bf16 = false;                                         ///< summaries of keys are rounded to it
    std::uint64_t seed = 1;
};

struct JudgedSetting {
    std::int64_t block_size;
    std::int64_t topk;
    std::string scorer;  ///< "submean-4" with its sub-blocks
    bool keep_first;
};

/// q . k of every row with keys 0 ... its position.
Rows affinities(const JudgedHead& head);

/// A row of the table `measure` by the names of its columns, from the definitions: whole matrices of scores and masses,
/// sorted rows, plain sums. NaN: no row qualifies. Intervals are of analysis/cluster_interval.h.
std::map<std::string, double> judge(const JudgedHead& head, const Rows& affinities, const JudgedSetting& setting,
                                    double confidence);

/// Tokens from the last key of a block to the position of a row, one entry a routed block and one a row's needle.
struct JudgedDistances {
    std::vector<std::int64_t> routed;
    std::vector<std::int64_t> needles;
};

JudgedDistances judged_distances(const JudgedHead& head, const Rows& affinities, const JudgedSetting& setting);

}  // namespace mobalab::experiments
