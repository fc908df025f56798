#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "experiments/results/results_file.h"

namespace mobalab::experiments {

// Counts of equal points from runs with different seeds, added up.
//
// What may be added. Trials of different seeds are independent, and a run's trials are the first ones of its seed's
// stream, up to a stop that looks at nothing but them. So for every point, whatever the stop rules, E[misses] = p
// E[trials] (Wald), also of sums over runs: misses / trials of the sums converges to p, where the mean of the single
// runs' ratios would keep the bias of each (a run stopped by its k-th miss has E[misses / trials] > p). The interval is
// Clopper-Pearson of the sums, exact where no rule looks at counts, and where one does as good as that of a single run
// under it. Files must have had the same rules on counts (max-misses, target-relative-error); trials and seconds may
// differ. Which files are added must not hang on what they hold.
//
// What may not: the trials of a seed twice, whether through the same file, a longer run of that seed or a file that is
// itself a combination (every one keeps its list of streams); weights instead of counts (method conditional), of which
// a file keeps no sums; the probes of route and validate, of which it keeps no counts by key set.

/// A results file to be added.
struct CombinationSource {
    std::string path;
    Results results;
};

/// The file's tables: "simulate" with the sums, whose attributes are those of a file of simulate and the rules on
/// counts, and "streams" (dimension "stream") with the columns point (row of simulate), seed, trials, misses,
/// git_commit: what was added. `confidence`: of the intervals; without it that of the first file. Exact points must be
/// equal. Throws FileError naming the file and what cannot be added.
std::vector<Table> combined_tables(const std::vector<CombinationSource>& sources, std::optional<double> confidence);

}  // namespace mobalab::experiments
