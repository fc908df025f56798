#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "analysis/routing_point.h"
#include "experiments/probe/needle_probe.h"
#include "experiments/results/unit_journal.h"

namespace mobalab::experiments {

/// What the probe is asked to do with a list of points.
struct ProbeSettings {
    kernels::DataType dtype = kernels::DataType::fp32;
    std::int64_t trials = 32768;  ///< probes a point, over all its key sets
    std::int64_t key_sets = 0;    ///< 0: chosen (split_probes)
    std::uint64_t seed = 1;
    int threads = 0;
    bool best_first = true;  ///< selections are: a smaller topk's begins a larger one's; else each is routed by itself
    bool has_law = true;     ///< the router follows the points' scorer
};

/// The kernels' scorer of this name; `seed` is that of scorer random. Throws analysis::InputError where they have none.
kernels::Scorer kernel_scorer(const analysis::Scorer& scorer, std::uint64_t seed);

/// What a point routes. One asked for by candidates (seq_len 0), and one of model text, whose query stands anywhere in
/// its block, gets a sequence of candidates + 1 whole blocks.
ProbeShape probe_shape(const analysis::RoutingPoint& point, kernels::DataType dtype, std::uint64_t seed);

/// Place of a point in the jobs.
struct ProbePlace {
    std::size_t job;
    std::size_t kind;
    std::size_t topk;
};

/// Points grouped into jobs: points of one shape share keys, points that differ only in topk share queries.
struct ProbePlan {
    std::vector<ProbeJob> jobs;
    std::vector<ProbePlace> places;  ///< of every point, in the order given
};

/// Throws analysis::InputError for points the probe cannot realise; it has keys of models sphere and text.
ProbePlan plan_probes(const std::vector<analysis::RoutingPoint>& points, const ProbeSettings& settings);

/// Counts of every key set of one job.
using JobCounts = std::vector<KeySetCounts>;

/// Called from one thread at a time with the share of the work done.
using ProbeProgress = std::function<void(double fraction, const std::string& text)>;

/// Runs all jobs, several key sets at once. Key sets found in the journal are not run again; the result is the same bit
/// for bit. Throws what count_key_set() throws, and Interrupted.
std::vector<JobCounts> run_probes(const std::vector<ProbeJob>& jobs, const KernelUnderTest& kernel,
                                  UnitJournal& journal, const ProbeProgress& progress);

}  // namespace mobalab::experiments
