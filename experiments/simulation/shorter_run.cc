#include "experiments/simulation/shorter_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "experiments/base/values.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

constexpr const char* how_else = "give another --out, or --force to begin anew";

}  // namespace

void check_goes_further(const sim::StopRule& before, const sim::StopRule& now) {
    if (now.max_trials < before.max_trials) {
        throw InputError(
            fmt::format("trials = {}: the file was made with {}, and --resume only adds; nearest valid: {}; "
                        "or {}",
                        now.max_trials, before.max_trials, before.max_trials, how_else));
    }
    if (now.max_misses > 0 && (before.max_misses == 0 || now.max_misses < before.max_misses)) {
        throw InputError(
            fmt::format("max-misses = {}: the file was made with {}, and a point may have gone beyond; "
                        "nearest valid: {}; or {}",
                        now.max_misses, before.max_misses, before.max_misses, how_else));
    }
    if (now.target_relative_error > 0.0 &&
        (before.target_relative_error == 0.0 || now.target_relative_error > before.target_relative_error)) {
        throw InputError(
            fmt::format("target-relative-error = {}: the file was made with {}, and a point may have gone "
                        "beyond; nearest valid: {}; or {}",
                        shortest(now.target_relative_error), shortest(before.target_relative_error),
                        shortest(before.target_relative_error), how_else));
    }
    if (now.max_seconds > 0.0) {
        throw InputError(
            fmt::format("max-seconds = {}: a finished file does not say how long its points took; nearest "
                        "valid: 0; or {}",
                        shortest(now.max_seconds), how_else));
    }
}

PointProgress progress_of_counts(const analysis::RoutingPoint& point, sim::Method method, sim::TrialStats counts) {
    PointProgress progress;
    const std::uint64_t chunk = sim::chunk_trials(point, method);
    progress.progress.chunks = counts.trials / chunk + (counts.trials % chunk != 0 ? 1 : 0);
    counts.rank_histogram.assign(sim::rank_bins(point), 0);
    const auto routed = static_cast<std::size_t>(point.routed());
    counts.rank_histogram.front() = counts.trials - counts.misses;
    counts.rank_histogram[std::min(routed, counts.rank_histogram.size() - 1)] += counts.misses;
    counts.check();
    progress.progress.stats = std::move(counts);
    return progress;
}

}  // namespace mobalab::experiments
