#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/routing_point.h"
#include "experiments/advise/evidence.h"

namespace mobalab::experiments {

/// A model nobody recorded: independent keys, and a needle with related tokens behind it.
struct Assumption {
    analysis::Model model = analysis::Model::sphere;
    std::int64_t head_dim = 0;
    std::int64_t seq_len = 0;
    std::vector<double> profile;  ///< affinities q.k of the needle (first) and of the tokens behind it in its block
};

/// Blocks to choose among; every combination is a setting.
struct SettingGrid {
    std::vector<std::int64_t> block_sizes;
    std::vector<std::int64_t> topks;
    std::vector<std::int64_t> budgets;  ///< keys: topk = budget / block size where that is whole and above 1
    std::vector<std::string> scorers;
    std::vector<bool> keep_first;
};

/// Probability that the last query of the sequence keeps its needle's block, by the exact law of each scorer, or by its
/// normal approximation where it has no exact one (Candidate::source says which).
///
/// The needle stands first in its block, which is any past block with equal probability; the profile must fit into the
/// block. The exact laws know a cluster by its needle and the mean of its other tokens, which is all that a score that
/// is a sum of affinities (mean) depends on; so a profile whose other tokens differ is taken by mean alone. With block
/// 0 kept a needle there is found and elsewhere c - 1 blocks compete for one slot less: hit = 1 / c + (1 - 1 / c) hit(c
/// - 1, topk - 1), which is exact too.
///
/// Settings that cannot be (a block smaller than the profile, no past block,
/// sub-blocks that do not divide the block) or that keep all past blocks or none are left out, and a note says how many
/// and why the first. Throws analysis::InputError where nothing is left, for a scorer without any law, and for a
/// profile that its scorer cannot have.
Evidence theory_evidence(const Assumption& assumption, const SettingGrid& grid);

}  // namespace mobalab::experiments
