#include "experiments/trained/record_consistency.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "experiments/base/regular_file.h"
#include "experiments/base/values.h"
#include "experiments/trace/checked_json.h"

namespace mobalab::experiments {
namespace {

using Runs = std::map<std::string, const TrainedRun*>;

[[noreturn]] void fail(const std::string& place, const std::string& rule) {
    throw FileError(fmt::format("{}: {}", place, rule));
}

Runs runs_by_name(const TrainingRecords& records) {
    Runs runs;
    for (const TrainedRun& run : records.runs) {
        runs.emplace(run.name, &run);
    }
    return runs;
}

template <typename Record>
const TrainedRun& run_of(const Runs& runs, const Record& record) {
    const auto found = runs.find(record.run);
    if (found == runs.end()) {
        std::vector<std::string> names;
        for (const auto& [name, run] : runs) {
            names.push_back(name);
        }
        fail(record.place, fmt::format("run = {}: has no record of kind run in the files read{}", shown(record.run),
                                       nearest_hint(record.run, names)));
    }
    return *found->second;
}

template <typename Record>
void require_language(const Runs& runs, const std::vector<Record>& records) {
    for (const Record& record : records) {
        if (const TrainedRun& run = run_of(runs, record); run.experiment != "language") {
            fail(record.place, fmt::format("run = {}: is of the experiment {}, and this kind of record is of language",
                                           shown(record.run), run.experiment));
        }
    }
}

void require_accuracies(const Runs& runs, const TrainingRecords& records) {
    for (const AccuracyRecord& record : records.accuracies) {
        if (!run_of(runs, record).is_moba() && record.any_hit > 0) {
            fail(record.place, fmt::format("any_hit = {}: must be 0, as run {} has no MoBA layer", record.any_hit,
                                           shown(record.run)));
        }
    }
}

/// Of positions and validation.
template <typename Record>
void require_mean(const Record& record) {
    if (record.sequence_loss.empty()) {
        return;
    }
    const double mean = std::accumulate(record.sequence_loss.begin(), record.sequence_loss.end(), 0.0) /
                        static_cast<double>(record.sequence_loss.size());
    constexpr double rounding = 1e-3;
    if (!(std::abs(mean - record.loss) <= rounding * (1.0 + record.loss))) {
        fail(record.place, fmt::format("loss = {}: must be the mean of sequence_loss, which is {} (sequences have as "
                                       "many tokens each)",
                                       shortest(record.loss), shortest(mean)));
    }
}

/// Heads of one run.
class RunHeads {
public:
    void add(const TrainedRun& run, const HeadRecord& record) {
        if (!run.is_moba()) {
            fail(record.place, fmt::format("run = {}: has attention {}; only moba has records of heads",
                                           shown(record.run), run.attention));
        }
        require_below("layer", record.layer, run.layers, record.place);
        require_below("head", record.head, run.heads, record.place);
        require_same_queries(record);
        evaluations_[{record.variant, record.seq_len}].insert({record.layer, record.head});
    }

    void require_complete(const TrainedRun& run) const {
        for (const auto& [evaluation, heads] : evaluations_) {
            std::set<std::int64_t> layers;
            for (const auto& [layer, head] : heads) {
                layers.insert(layer);
            }
            if (static_cast<std::int64_t>(heads.size()) != run.heads * static_cast<std::int64_t>(layers.size())) {
                fail(run.place,
                     fmt::format(
                         "run {} has {} heads a layer, and at seq_len {} records of {} heads in layers {}: every "
                         "head of a layer needs one",
                         shown(run.name), run.heads, evaluation.second, heads.size(), fmt::join(layers, ", ")));
            }
            if (heads != evaluations_.begin()->second) {
                fail(run.place, fmt::format("run {} has records of heads of other layers at seq_len {} than at {}",
                                            shown(run.name), evaluation.second, evaluations_.begin()->first.second));
            }
        }
    }

private:
    static void require_below(const char* field, std::int64_t value, std::int64_t count, const std::string& place) {
        if (value >= count) {
            fail(place, fmt::format("{} = {}: must be from 0 to {}, as the run has {}; nearest valid: {}", field, value,
                                    count - 1, count, count - 1));
        }
    }

    void require_same_queries(const HeadRecord& record) {
        const auto [first, is_new] = first_.emplace(std::pair(record.variant, record.seq_len), &record);
        const HeadRecord& other = *first->second;
        if (!is_new && std::tie(record.queries, record.own_block, record.candidates, record.sequence_queries) !=
                           std::tie(other.queries, other.own_block, other.candidates, other.sequence_queries)) {
            fail(record.place,
                 fmt::format("queries, own_block, candidates and sequence_queries must be those of {}: the "
                             "heads of a run are asked the same queries",
                             other.place));
        }
    }

    std::map<std::pair<std::string, std::int64_t>, std::set<std::pair<std::int64_t, std::int64_t>>> evaluations_;
    std::map<std::pair<std::string, std::int64_t>, const HeadRecord*> first_;
};

void require_heads(const Runs& runs, const TrainingRecords& records) {
    std::map<std::string, RunHeads> heads;
    for (const HeadRecord& record : records.heads) {
        heads[record.run].add(run_of(runs, record), record);
    }
    for (const auto& [name, of_run] : heads) {
        of_run.require_complete(*runs.at(name));
    }
}

}  // namespace

void require_consistent(const TrainingRecords& records) {
    const Runs runs = runs_by_name(records);
    require_language(runs, records.positions);
    require_language(runs, records.validations);
    require_language(runs, records.needles);
    for (const CurveRecord& record : records.curves) {
        run_of(runs, record);
    }
    for (const ValidationRecord& record : records.validations) {
        require_mean(record);
    }
    for (const PositionRecord& record : records.positions) {
        require_mean(record);
    }
    require_accuracies(runs, records);
    require_heads(runs, records);
}

}  // namespace mobalab::experiments
