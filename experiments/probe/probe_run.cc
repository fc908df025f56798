#include "experiments/probe/probe_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <numeric>

#include "experiments/base/interrupt.h"
#include "experiments/base/number_bytes.h"
#include "experiments/base/parallel_for.h"
#include "experiments/base/values.h"
#include "experiments/probe/probe_sources.h"
#include "experiments/probe/text_source.h"
#include "experiments/ranks/work_dealer.h"
#include "sim/streams/philox.h"

namespace mobalab::experiments {
namespace {

constexpr std::int64_t key_sets_a_unit = 8;

// A cluster of one token has no other tokens, whatever their affinity would be.
NeedleKind kind_of(const analysis::RoutingPoint& point) {
    return {.mu_signal = point.mu_signal,
            .mu_cluster = point.cluster_size == 1 ? 0.0 : point.mu_cluster,
            .cluster_size = point.cluster_size,
            .query_mean = point.query_mean,
            .topks = {}};
}

std::optional<TextFields> text_of(const analysis::RoutingPoint& point) {
    if (!analysis::definition_of(point.model).text_keys) {
        return std::nullopt;
    }
    return TextFields{.key_mean = point.key_mean,
                      .effective_dim = point.effective_dim,
                      .key_correlation = point.key_correlation,
                      .key_memory = point.key_memory,
                      .sink = point.sink};
}

// Throws InputError for keys that no source draws.
void check_model(const analysis::RoutingPoint& point) {
    if (point.model != analysis::Model::sphere && point.model != analysis::Model::text) {
        throw analysis::InputError(
            fmt::format("model = {}: the kernel is probed with keys of model sphere or text; nearest valid: sphere",
                        analysis::to_string(point.model)));
    }
    if (point.model == analysis::Model::sphere && point.key_correlation > 0.0) {
        throw analysis::InputError(
            fmt::format("key-correlation = {} with model sphere: probes among unit keys have independent ones; nearest "
                        "valid: 0, or model text",
                        shortest(point.key_correlation)));
    }
}

bool same_needles(const NeedleKind& a, const NeedleKind& b) {
    return a.mu_signal == b.mu_signal && a.mu_cluster == b.mu_cluster && a.cluster_size == b.cluster_size &&
           a.query_mean == b.query_mean;
}

template <typename T, typename Predicate>
std::size_t find_or_add(std::vector<T>& items, const T& item, Predicate same) {
    const auto found = std::find_if(items.begin(), items.end(), [&](const T& other) { return same(item, other); });
    if (found != items.end()) {
        return static_cast<std::size_t>(found - items.begin());
    }
    items.push_back(item);
    return items.size() - 1;
}

// Key sets [first, last) of one job: what is journalled at once.
struct Unit {
    std::size_t job;
    std::int64_t first;
    std::int64_t last;
    double work;  // multiply-adds and random numbers, roughly
};

double work_of_key_set(const ProbeJob& job) {
    const auto d = static_cast<double>(job.shape.head_dim);
    const double keys = static_cast<double>(job.shape.seq_len) * d * 8.0;
    const double a_query = d * (32.0 + static_cast<double>(job.shape.last_candidates()) / 4.0);
    return keys + a_query * static_cast<double>(job.budget.probes) * static_cast<double>(job.kinds.size());
}

std::vector<Unit> units_of(const std::vector<ProbeJob>& jobs) {
    std::vector<Unit> units;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        for (std::int64_t first = 0; first < jobs[i].budget.key_sets; first += key_sets_a_unit) {
            const std::int64_t last = std::min(first + key_sets_a_unit, jobs[i].budget.key_sets);
            units.push_back({i, first, last, work_of_key_set(jobs[i]) * static_cast<double>(last - first)});
        }
    }
    return units;
}

void append(const KeySetCounts& counts, std::vector<std::int64_t>& record) {
    record.push_back(counts.illegal_rows);
    record.insert(record.end(), counts.trials.begin(), counts.trials.end());
    record.insert(record.end(), counts.misses.begin(), counts.misses.end());
}

// What all ranks must route with, and route.
std::string name_of(const std::vector<ProbeJob>& jobs, const KernelUnderTest& kernel) {
    std::string identities;
    for (const ProbeJob& job : jobs) {
        identities += make_probe_source(job)->identity() + "\n";
    }
    return fmt::format("{} {} {:016x}", kernel.device(),
                       jobs.empty() ? std::string_view() : to_string(jobs.front().shape.dtype),
                       sim::hash_text(identities));
}

std::vector<std::int64_t> run_unit(const ProbeJob& job, const KernelUnderTest& kernel, const Unit& unit) {
    const std::unique_ptr<ProbeSource> source = make_probe_source(job);
    std::vector<std::int64_t> record;
    for (std::int64_t g = unit.first; g < unit.last; ++g) {
        if (interrupted()) {
            throw Interrupted(stop_cause() + " in the kernel's probes; " + StopAdvice::present());
        }
        append(count_key_set(*source, kernel, g), record);
    }
    return record;
}

// Takes the counts of a unit from its record; false when the record is not one of this job.
bool restore(const ProbeJob& job, const std::vector<std::int64_t>& record, const Unit& unit, JobCounts& counts) {
    auto at = record.begin();
    const auto take = [&](std::size_t size) {
        const auto first = at;
        at += static_cast<std::ptrdiff_t>(size);
        return std::vector<std::int64_t>(first, at);
    };
    const std::unique_ptr<ProbeSource> source = make_probe_source(job);
    for (std::int64_t g = unit.first; g < unit.last; ++g) {
        const std::size_t segments = segments_of(source->chunks(g), source->shape().block_size).size();
        const std::size_t trials = segments * source->kinds();
        if (static_cast<std::size_t>(record.end() - at) < 1 + trials + misses_size(*source)) {
            return false;
        }
        KeySetCounts& target = counts[static_cast<std::size_t>(g)];
        target.illegal_rows = *at++;
        target.trials = take(trials);
        target.misses = take(misses_size(*source));
    }
    return at == record.end();
}

// Keys that all workers hold on the host together: 4 GiB, or an eighth of a large memory.
std::int64_t most_tensor_bytes() {
    const std::int64_t memory = std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
    return std::max(std::int64_t{4} << 30U, memory / 8);
}

int workers(const std::vector<ProbeJob>& jobs, const KernelUnderTest& kernel) {
    std::int64_t largest = 1;
    for (const ProbeJob& job : jobs) {
        const std::int64_t text = job.shape.seq_len * job.shape.head_dim * std::int64_t{sizeof(float)};
        largest = std::max(largest, job.text ? text : kernel.host_bytes(job.shape));
    }
    return static_cast<int>(
        std::clamp<std::int64_t>(most_tensor_bytes() / largest, 1, std::int64_t{kernel.parallel_key_sets()}));
}

}  // namespace

kernels::Scorer kernel_scorer(const analysis::Scorer& scorer, std::uint64_t seed) {
    const analysis::ScorerDefinition& wanted = analysis::definition_of(scorer.kind);
    for (int number = 0;; ++number) {
        const auto kind = static_cast<kernels::ScorerKind>(number);
        const kernels::ScorerDefinition* known = kernels::find_scorer(kind);
        if (known == nullptr) {
            throw analysis::InputError(
                fmt::format("scorer = {}: the kernels have no such scorer; nearest valid: mean", wanted.name));
        }
        if (known->name == wanted.name) {
            return {.kind = kind, .sub_blocks = scorer.sub_blocks, .seed = known->parts == 0 ? seed : 0};
        }
    }
}

ProbeShape probe_shape(const analysis::RoutingPoint& point, kernels::DataType dtype, std::uint64_t seed) {
    const bool whole_blocks = point.seq_len == 0 || analysis::definition_of(point.model).text_keys;
    const std::int64_t seq_len = whole_blocks ? (point.candidates + 1) * point.block_size : point.seq_len;
    return {.head_dim = point.head_dim,
            .block_size = point.block_size,
            .seq_len = seq_len,
            .dtype = dtype,
            .scorer = kernel_scorer(point.scorer, seed)};
}

ProbePlan plan_probes(const std::vector<analysis::RoutingPoint>& points, const ProbeSettings& settings) {
    ProbePlan plan;
    for (const analysis::RoutingPoint& point : points) {
        check_model(point);
        const ProbeShape shape = probe_shape(point, settings.dtype, settings.seed);
        ProbeJob job{.shape = shape,
                     .budget = {},
                     .seed = settings.seed,
                     .kinds = {},
                     .text = text_of(point),
                     .has_law = settings.has_law};
        const std::size_t j = find_or_add(
            plan.jobs, job, [](const auto& a, const auto& b) { return a.shape == b.shape && a.text == b.text; });
        std::vector<NeedleKind>& kinds = plan.jobs[j].kinds;
        const std::size_t k = find_or_add(kinds, kind_of(point), [&](const NeedleKind& a, const NeedleKind& b) {
            return same_needles(a, b) && (settings.best_first || b.topks.front() == point.topk);
        });
        const std::size_t t = find_or_add(kinds[k].topks, point.topk, std::equal_to<>());
        plan.places.push_back({j, k, t});
    }
    for (ProbeJob& job : plan.jobs) {
        check_job(job);
        job.budget = job.text ? split_text_probes(settings.trials, settings.key_sets)
                              : split_probes(job.shape, settings.trials, settings.key_sets);
    }
    return plan;
}

std::vector<JobCounts> run_probes(const std::vector<ProbeJob>& jobs, const KernelUnderTest& kernel,
                                  UnitJournal& journal, const ProbeProgress& progress) {
    std::vector<JobCounts> counts;
    counts.reserve(jobs.size());
    for (const ProbeJob& job : jobs) {
        counts.emplace_back(static_cast<std::size_t>(job.budget.key_sets));
    }
    const std::vector<Unit> units = units_of(jobs);
    const double total =
        std::accumulate(units.begin(), units.end(), 0.0, [](double sum, const Unit& unit) { return sum + unit.work; });
    const auto run_numbered = [&](std::size_t i) { return run_unit(jobs[units[i].job], kernel, units[i]); };
    WorkDealer& dealer = work_dealer();
    if (!dealer.begin(workers(jobs, kernel), name_of(jobs, kernel),
                      [&](const std::string& request) { return bytes_of(run_numbered(std::stoul(request))); })) {
        return counts;
    }
    double done = 0.0;
    std::mutex mutex;
    parallel_for(units.size(), workers(jobs, kernel) + dealer.helpers(), [&](std::size_t i) {
        const Unit& unit = units[i];
        const ProbeJob& job = jobs[unit.job];
        const auto number = static_cast<std::int64_t>(i);
        bool found = false;
        {
            const std::lock_guard lock(mutex);
            const auto record = journal.find(number);
            found = record.has_value() && restore(job, *record, unit, counts[unit.job]);
        }
        std::vector<std::int64_t> record;
        if (!found) {
            const auto reply = dealer.ask(std::to_string(i));
            record = reply ? numbers_of(*reply) : run_numbered(i);
        }
        const std::lock_guard lock(mutex);
        if (!found) {
            if (!restore(job, record, unit, counts[unit.job])) {
                throw std::logic_error("probes: the counts of a unit do not fit its job");
            }
            journal.record(number, record);
        }
        done += unit.work;
        progress(done / total, fmt::format("kernel: d {}, B {}, N {}, key sets to {} of {}", job.shape.head_dim,
                                           job.shape.block_size, job.shape.seq_len, unit.last, job.budget.key_sets));
    });
    return counts;
}

}  // namespace mobalab::experiments
