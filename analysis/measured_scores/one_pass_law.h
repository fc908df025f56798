#pragma once

#include <cstdint>
#include <vector>

#include "analysis/measured_scores/independent_rivals.h"
#include "analysis/measured_scores/token_statistics.h"

namespace mobalab::analysis {

/// What is looked for.
enum class Target {
    needle,  ///< hit probability of the needle's block
    mass,    ///< mass recall: the block of a token drawn by its mass among the candidates
};

/// From token statistics to the scores of the scorer `mean` at every block size, and to what it finds. README.md of
/// this folder has the derivation, the assumptions and where they fail.
class OnePassLaw {
public:
    /// Keeps a reference. Throws InputError: statistics of wrong sizes or with values that are not finite.
    explicit OnePassLaw(const TokenStatistics& statistics);

    /// Scores of blocks without a target for a query of `candidates` candidates: entry j - 1 is that of block distance
    /// j (1: the latest candidate), the last one is block 0 with the first tokens' own statistics.
    std::vector<NormalScore> rivals(std::int64_t block_size, std::int64_t candidates) const;

    /// Score of the block that holds a target of the group, over its distances and over where in the block it stands.
    NormalScore target(std::int64_t block_size, const TargetGroup& group) const;

    /// P(hit), or mass recall, with K = 0 ... most_slots routed slots; with keep_first block 0 takes one of them. The
    /// population is that of block_size or the one nearest in logarithm. Throws InputError: block_size outside 2 ...
    /// most_block_size, candidates < 1, slots < 0, no targets.
    std::vector<double> hits(Target target, std::int64_t block_size, std::int64_t candidates, std::int64_t most_slots,
                             bool keep_first = false) const;

private:
    double mean_trend(double nearest, std::int64_t tokens) const;
    double window_variance(std::int64_t block_size, double distance) const;
    NormalScore first_block(std::int64_t block_size) const;

    const TokenStatistics& statistics_;
};

}  // namespace mobalab::analysis
