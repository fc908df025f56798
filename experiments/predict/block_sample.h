#pragma once

#include <cstdint>
#include <vector>

#include "analysis/measured_scores/empirical_hit.h"
#include "analysis/measured_scores/standardised_hit.h"
#include "experiments/predict/head_scores.h"

namespace mobalab::experiments {

/// Block scores of the scorer `mean`, standardised over the candidates of each row, of targets and of their rivals.
struct BlockSample {
    std::vector<analysis::WeightedScore> targets;
    std::vector<analysis::WeightedScore> rivals;
};

/// Each row's target is the block of its needle; or, `by_mass`, every candidate by its share of the candidates' mass,
/// and a rival by what is left of one. Rows of fewer than three candidates, or whose scores do not differ, are left
/// out; so both lists may be empty.
BlockSample block_sample(const HeadScores& scores, std::int64_t block_size, bool by_mass);

/// a and r of the sample's moments. Both lists have entries.
analysis::StandardisedSignal standardised(const BlockSample& sample);

}  // namespace mobalab::experiments
