#include "experiments/trained/arm_tables.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "analysis/cluster_interval.h"
#include "experiments/trained/run_columns.h"

namespace mobalab::experiments {
namespace {

using analysis::ClusterTotal;
using analysis::Interval;

constexpr const char* over_seeds =
    "runs, which differ in their seed, are the clusters: Korn-Graubard with their design effect, at least that of "
    "independent answers, and runs - 1 degrees of freedom (analysis/cluster_interval.h: clustered_share); one run: 0 "
    "to 1";
constexpr const char* over_runs =
    "runs are the clusters: Clopper-Pearson on the number of trials whose binomial variance is theirs, with runs - 1 "
    "degrees "
    "of freedom (analysis/cluster_interval.h: clustered_mean); one run: 0 to 1";
constexpr const char* every_arm = "all";
constexpr const char* with_convolution = "key convolution";
constexpr const char* without_convolution = "no key convolution";
constexpr const char* without_relays = "no-relays";  ///< a variant, experiments/training/evaluate.py

struct ArmRow {
    const TrainedRun* run;  ///< the first of the arm
    std::vector<const AccuracyOutcome*> outcomes;
    Interval accuracy;

    double mean(double AccuracyOutcome::*value) const {
        double sum = 0.0;
        for (const AccuracyOutcome* outcome : outcomes) {
            sum += outcome->*value;
        }
        return sum / static_cast<double>(outcomes.size());
    }
    std::int64_t learned() const {
        std::int64_t count = 0;
        for (const AccuracyOutcome* outcome : outcomes) {
            if (outcome->run->learned < 0) {
                return -1;
            }
            count += outcome->run->learned;
        }
        return count;
    }
    double mean_any_hit() const {
        double sum = 0.0;
        for (const AccuracyOutcome* outcome : outcomes) {
            sum += outcome->any_hit.value;
        }
        return sum / static_cast<double>(outcomes.size());
    }
};

Interval accuracy_over_seeds(const std::vector<const AccuracyOutcome*>& outcomes, double confidence) {
    std::vector<ClusterTotal> clusters;
    for (const AccuracyOutcome* outcome : outcomes) {
        clusters.push_back(
            {static_cast<double>(outcome->record->correct), static_cast<double>(outcome->record->asked)});
    }
    return analysis::clustered_share(clusters, 1.0 - confidence);
}

std::vector<ArmRow> arm_rows(const TrainingRecords& records, const TrainedOutcomes& outcomes, double confidence) {
    std::vector<ArmRow> rows;
    for (const auto& runs : runs_by_arm(records)) {
        std::map<std::pair<std::string, std::int64_t>, std::vector<const AccuracyOutcome*>> evaluations;
        for (const AccuracyOutcome& outcome : outcomes.accuracies) {
            if (std::ranges::find(runs, outcome.run) != runs.end()) {
                evaluations[{outcome.record->variant, outcome.record->seq_len}].push_back(&outcome);
            }
        }
        for (auto& [evaluation, of_arm] : evaluations) {
            const Interval accuracy = accuracy_over_seeds(of_arm, confidence);
            rows.push_back({runs.front(), std::move(of_arm), accuracy});
        }
    }
    return rows;
}

std::vector<Column> arm_columns(const std::vector<ArmRow>& rows) {
    using Row = const ArmRow&;
    return {
        make_column(rows, "variant", variant_column,
                    [](Row row) { return variant_text(row.outcomes.front()->record->variant); }),
        make_column(rows, "seq_len", "tokens of a sequence",
                    [](Row row) { return row.outcomes.front()->record->seq_len; }),
        make_column(rows, "seeds", "runs, each with a seed of its own",
                    [](Row row) { return static_cast<std::int64_t>(row.outcomes.size()); }),
        make_column(
            rows, "learned", "of these: went through their curriculum", [](Row row) { return row.learned(); },
            "-1: not said"),
        make_column(rows, "accuracy", "share of asked pairs answered, mean over runs",
                    [](Row row) { return row.accuracy.value; }),
        make_column(
            rows, "accuracy_low", "lower end of its interval", [](Row row) { return row.accuracy.low; }, over_seeds),
        make_column(
            rows, "accuracy_high", "upper end of its interval", [](Row row) { return row.accuracy.high; }, over_seeds),
        make_column(rows, "predicted_accuracy", "predicted with independent heads, mean over runs",
                    [](Row row) { return row.mean(&AccuracyOutcome::predicted_accuracy); }),
        make_column(rows, "predicted_accuracy_correlated", "predicted with correlated heads, mean over runs",
                    [](Row row) { return row.mean(&AccuracyOutcome::predicted_accuracy_correlated); }),
        make_column(rows, "predicted_accuracy_retrieval_layer", "predicted from the retrieval layer, mean over runs",
                    [](Row row) { return row.mean(&AccuracyOutcome::predicted_accuracy_retrieval_layer); }),
        make_column(rows, "any_hit", "share of far pairs that some head routed, mean over runs",
                    [](Row row) { return row.mean_any_hit(); }),
        make_column(rows, "predicted_any_hit", "predicted with independent heads, mean over runs",
                    [](Row row) { return row.mean(&AccuracyOutcome::predicted_any_hit); }),
    };
}

/// One value that is predicted and measured.
struct ErrorValue {
    const TrainedRun* run;
    bool shortest;      ///< at the shortest length that the run was evaluated at, which its training ended with
    double difference;  ///< predicted less measured
};

struct Quantity {
    const char* name;
    std::vector<ErrorValue> values;
};

/// The shortest length that each run was evaluated at.
class ShortestLengths {
public:
    explicit ShortestLengths(const TrainedOutcomes& outcomes) {
        for (const HeadOutcome& head : outcomes.heads) {
            look(head.run, head.record->seq_len);
        }
        for (const AccuracyOutcome& accuracy : outcomes.accuracies) {
            look(accuracy.run, accuracy.record->seq_len);
        }
    }
    bool is(const TrainedRun* run, std::int64_t seq_len) const { return lengths_.at(run) == seq_len; }

private:
    void look(const TrainedRun* run, std::int64_t seq_len) {
        const auto [known, is_new] = lengths_.emplace(run, seq_len);
        known->second = std::min(known->second, seq_len);
    }

    std::map<const TrainedRun*, std::int64_t> lengths_;
};

void add(Quantity& quantity, const TrainedRun* run, bool shortest, double predicted, double measured) {
    if (std::isfinite(predicted) && std::isfinite(measured)) {
        quantity.values.push_back({run, shortest, predicted - measured});
    }
}

std::vector<Quantity> quantities_of(const TrainedOutcomes& outcomes) {
    const ShortestLengths lengths(outcomes);
    Quantity hit{"hit", {}};
    Quantity uncorrected{"hit, uncorrected", {}};
    for (const HeadOutcome& head : outcomes.heads) {
        if (head.record->variant.empty()) {
            const bool shortest = lengths.is(head.run, head.record->seq_len);
            add(hit, head.run, shortest, head.predicted_hit, head.hit.value);
            add(uncorrected, head.run, shortest, head.uncorrected_hit, head.hit.value);
        }
    }
    Quantity any_hit{"any_hit", {}};
    Quantity independence{"independence of heads", {}};
    Quantity accuracy{"accuracy", {}};
    Quantity correlated{"accuracy, correlated heads", {}};
    Quantity retrieval_layer{"accuracy, retrieval layer", {}};
    Quantity readout{"found share", {}};
    Quantity no_relays{"accuracy without relays", {}};
    Quantity no_relays_correlated{"accuracy without relays, correlated heads", {}};
    Quantity no_relays_layer{"accuracy without relays, retrieval layer", {}};
    Quantity no_relays_readout{"found share without relays", {}};
    for (const AccuracyOutcome& outcome : outcomes.accuracies) {
        const auto add_to = [&](Quantity& quantity, double predicted, double measured) {
            add(quantity, outcome.run, lengths.is(outcome.run, outcome.record->seq_len), predicted, measured);
        };
        if (outcome.record->variant == without_relays) {
            add_to(no_relays, outcome.predicted_accuracy, outcome.accuracy.value);
            add_to(no_relays_correlated, outcome.predicted_accuracy_correlated, outcome.accuracy.value);
            add_to(no_relays_layer, outcome.predicted_accuracy_retrieval_layer, outcome.accuracy.value);
            add_to(no_relays_readout, outcome.found_share, outcome.accuracy.value);
        }
        if (!outcome.record->variant.empty()) {
            continue;
        }
        add_to(any_hit, outcome.predicted_any_hit, outcome.any_hit.value);
        add_to(independence, outcome.independent_any_hit, outcome.any_hit.value);
        add_to(accuracy, outcome.predicted_accuracy, outcome.accuracy.value);
        add_to(correlated, outcome.predicted_accuracy_correlated, outcome.accuracy.value);
        add_to(retrieval_layer, outcome.predicted_accuracy_retrieval_layer, outcome.accuracy.value);
        add_to(readout, outcome.found_share, outcome.accuracy.value);
    }
    return {hit,       uncorrected,          any_hit,         independence,
            accuracy,  correlated,           retrieval_layer, readout,
            no_relays, no_relays_correlated, no_relays_layer, no_relays_readout};
}

struct ErrorRow {
    std::string arm;
    std::string quantity;
    std::string lengths;
    std::int64_t runs;
    std::int64_t values;
    Interval mean_absolute;
    double mean;
};

void add_row(std::vector<ErrorRow>& rows, const std::string& arm, const Quantity& quantity, const std::string& lengths,
             double confidence, const std::function<bool(const ErrorValue&)>& counts) {
    std::map<const TrainedRun*, ClusterTotal> absolute;
    double sum = 0.0;
    std::int64_t values = 0;
    for (const ErrorValue& value : quantity.values) {
        if (counts(value)) {
            absolute[value.run].sum += std::abs(value.difference);
            absolute[value.run].weight += 1.0;
            sum += value.difference;
            ++values;
        }
    }
    if (values == 0) {
        return;
    }
    std::vector<ClusterTotal> clusters;
    for (const auto& [run, total] : absolute) {
        clusters.push_back(total);
    }
    rows.push_back({arm, quantity.name, lengths, static_cast<std::int64_t>(clusters.size()), values,
                    analysis::clustered_mean(clusters, 1.0 - confidence), sum / static_cast<double>(values)});
}

void add_rows(std::vector<ErrorRow>& rows, const std::string& arm, const Quantity& quantity, double confidence,
              const std::function<bool(const TrainedRun&)>& in_arm) {
    add_row(rows, arm, quantity, "shortest", confidence,
            [&](const ErrorValue& value) { return in_arm(*value.run) && value.shortest; });
    add_row(rows, arm, quantity, "all", confidence, [&](const ErrorValue& value) { return in_arm(*value.run); });
}

}  // namespace

Table training_arms_table(const TrainingRecords& records, const TrainedOutcomes& outcomes, double confidence) {
    const std::vector<ArmRow> rows = arm_rows(records, outcomes, confidence);
    Table table{.name = "training_arms",
                .dimension = "arm_row",
                .columns = run_columns(rows, [](const ArmRow& row) -> const TrainedRun& { return *row.run; })};
    std::erase_if(table.columns, [](const Column& column) { return column.name == "run" || column.name == "seed"; });
    append_columns(table.columns, arm_columns(rows));
    return table;
}

Table training_errors_table(const TrainingRecords& records, const TrainedOutcomes& outcomes, double confidence) {
    std::vector<ErrorRow> rows;
    const auto is_convolved = [](const TrainedRun& run) { return run.key_conv > 0; };
    const auto convolved = std::ranges::count_if(records.runs, is_convolved);
    const bool both_kinds = convolved > 0 && convolved < std::ssize(records.runs);
    for (const Quantity& quantity : quantities_of(outcomes)) {
        add_rows(rows, every_arm, quantity, confidence, [](const TrainedRun&) { return true; });
        if (both_kinds) {
            add_rows(rows, with_convolution, quantity, confidence, is_convolved);
            add_rows(rows, without_convolution, quantity, confidence, std::not_fn(is_convolved));
        }
        for (const auto& runs : runs_by_arm(records)) {
            add_rows(rows, arm_of(*runs.front()), quantity, confidence,
                     [&](const TrainedRun& run) { return std::ranges::find(runs, &run) != runs.end(); });
        }
    }
    using Row = const ErrorRow&;
    return {
        .name = "training_errors",
        .dimension = "error_row",
        .columns = {
            make_column(rows, "arm",
                        "arm of the runs; all: every arm; key convolution, no key convolution: arms with and without",
                        [](Row row) { return row.arm; }),
            make_column(
                rows, "quantity", "what was predicted", [](Row row) { return row.quantity; },
                "hit: of a head; any_hit: of the heads together; independence of heads: any_hit from the measured "
                "hits of "
                "independent heads; accuracy: three predictions; found share: accuracy if all that is routed were "
                "answered; without relays: of the variant in which only the asked queries see routed blocks"),
            make_column(rows, "lengths",
                        "shortest: at the shortest length of each run, which training ends with; all: at every length",
                        [](Row row) { return row.lengths; }),
            make_column(rows, "runs", "runs that have a value", [](Row row) { return row.runs; }),
            make_column(rows, "values", "values (a head or a run at a length)", [](Row row) { return row.values; }),
            make_column(rows, "mean_error", "mean of predicted less measured", [](Row row) { return row.mean; }),
            make_column(rows, "mean_absolute_error", "mean of |predicted - measured|",
                        [](Row row) { return row.mean_absolute.value; }),
            make_column(
                rows, "mean_absolute_error_low", "lower end of its interval",
                [](Row row) { return row.mean_absolute.low; }, over_runs),
            make_column(
                rows, "mean_absolute_error_high", "upper end of its interval",
                [](Row row) { return row.mean_absolute.high; }, over_runs),
        }};
}

}  // namespace mobalab::experiments
