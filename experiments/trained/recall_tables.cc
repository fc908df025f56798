#include "experiments/trained/recall_tables.h"

#include "experiments/trained/run_columns.h"

namespace mobalab::experiments {
namespace {

constexpr const char* by_sequences =
    "Korn-Graubard with the design effect of the sequences (analysis/cluster_interval.h); where none or all hit each "
    "sequence counts as one trial";
constexpr const char* far_pairs = "of asked pairs that do not lie in the query's own block";
constexpr const char* independent =
    "1 - prod over the heads of all MoBA layers of (1 - predicted hit), at each number of candidates, averaged over "
    "the "
    "queries; heads taken for independent";
constexpr const char* correlated =
    "the same with standardised scores that share one factor, so that any two heads have the correlation "
    "signal_correlation";
constexpr const char* answers =
    "own_share + (1 - own_share) any_hit: what is routed by some head is answered, nothing else is";

using Heads = std::vector<HeadOutcome>;
using Accuracies = std::vector<AccuracyOutcome>;

std::vector<Column> accuracy_columns(const Accuracies& rows) {
    using Row = const AccuracyOutcome&;
    return {
        make_column(rows, "variant", variant_column, [](Row row) { return variant_text(row.record->variant); }),
        make_column(rows, "seq_len", "tokens of a sequence", [](Row row) { return row.record->seq_len; }),
        make_column(rows, "sequences", "sequences evaluated", [](Row row) { return row.record->sequences; }),
        make_column(rows, "asked", "pairs asked for", [](Row row) { return row.record->asked; }),
        make_column(rows, "correct", "of these: answered", [](Row row) { return row.record->correct; }),
        make_column(rows, "accuracy", "share of asked pairs answered", [](Row row) { return row.accuracy.value; }),
        make_column(
            rows, "accuracy_low", "lower end of its interval", [](Row row) { return row.accuracy.low; }, by_sequences),
        make_column(
            rows, "accuracy_high", "upper end of its interval", [](Row row) { return row.accuracy.high; },
            by_sequences),
        make_column(rows, "own_share", "share of asked pairs in the query's own block",
                    [](Row row) { return row.own_share; }),
        make_column(
            rows, "any_hit", "share of pairs whose block some head of some MoBA layer routed",
            [](Row row) { return row.any_hit.value; }, far_pairs),
        make_column(
            rows, "any_hit_low", "lower end of its interval", [](Row row) { return row.any_hit.low; }, by_sequences),
        make_column(
            rows, "any_hit_high", "upper end of its interval", [](Row row) { return row.any_hit.high; }, by_sequences),
        make_column(
            rows, "found_share", "share of asked pairs that routing lets answer",
            [](Row row) { return row.found_share; },
            "own_share + (1 - own_share) any_hit; accuracy less this is lost in reading out, or won another way"),
        make_column(
            rows, "read_out", "share of pairs that some head routed that are answered",
            [](Row row) { return row.read_out; }, "any_hit_correct / (any_hit of the far pairs)"),
        make_column(rows, "answered_unrouted", "share of far pairs that no head routed that are answered",
                    [](Row row) { return row.answered_unrouted; }),
        make_column(
            rows, "independent_any_hit", "any_hit if the heads' measured hits were independent",
            [](Row row) { return row.independent_any_hit; }, "1 - prod over the heads of (1 - hit)"),
    };
}

std::vector<Column> prediction_columns_of(const Accuracies& rows) {
    using Row = const AccuracyOutcome&;
    return {
        make_column(
            rows, "predicted_any_hit", "any_hit predicted from statistics of the heads' scores",
            [](Row row) { return row.predicted_any_hit; }, independent),
        make_column(
            rows, "predicted_accuracy", "accuracy predicted from statistics of the heads' scores",
            [](Row row) { return row.predicted_accuracy; }, std::string(answers) + "; any_hit is predicted_any_hit"),
        make_column(
            rows, "signal_correlation", "correlation of the standardised scores of two heads",
            [](Row row) { return row.record->signal_correlation; }, "over queries, mean over pairs of MoBA heads"),
        make_column(
            rows, "predicted_any_hit_correlated", "any_hit predicted with correlated heads",
            [](Row row) { return row.predicted_any_hit_correlated; }, correlated),
        make_column(
            rows, "predicted_accuracy_correlated", "accuracy predicted with correlated heads",
            [](Row row) { return row.predicted_accuracy_correlated; },
            std::string(answers) + "; any_hit is predicted_any_hit_correlated"),
        make_column(
            rows, "predicted_accuracy_retrieval_layer", "accuracy predicted from the heads of one layer",
            [](Row row) { return row.predicted_accuracy_retrieval_layer; },
            "of the layer whose signal has the largest mean; correlated as in predicted_accuracy_correlated, "
            "independent where "
            "signal_correlation is not recorded"),
    };
}

std::vector<Column> head_columns(const Heads& rows) {
    using Row = const HeadOutcome&;
    return {
        make_column(rows, "variant", variant_column, [](Row row) { return variant_text(row.record->variant); }),
        make_column(rows, "seq_len", "tokens of a sequence", [](Row row) { return row.record->seq_len; }),
        make_column(rows, "layer", "layer of the model", [](Row row) { return row.record->layer; }),
        make_column(rows, "head", "query head", [](Row row) { return row.record->head; }),
        make_column(
            rows, "queries", "queries that ask for a pair", [](Row row) { return row.record->queries; }, far_pairs),
        make_column(rows, "hits", "of these: the kernel's routing held the pair's block",
                    [](Row row) { return row.record->hits; }),
        make_column(rows, "hit", "share of queries that hit", [](Row row) { return row.hit.value; }),
        make_column(
            rows, "hit_low", "lower end of its interval", [](Row row) { return row.hit.low; }, by_sequences),
        make_column(
            rows, "hit_high", "upper end of its interval", [](Row row) { return row.hit.high; }, by_sequences),
        make_column(
            rows, "predicted_hit", "hit probability predicted from statistics of the head's scores",
            [](Row row) { return row.predicted_hit; },
            "E_z[P(Bin(c - 1, Q(a + r z)) <= k - 2)], exact integral, averaged over the queries' numbers of candidates "
            "c; a and "
            "r are signal_mean and signal_sd less what standardising by the query's own noise blocks adds "
            "(analysis/measured_scores/sample_standardised.h); scorer random: min(1, (k - 1) / c)"),
        make_column(
            rows, "uncorrected_hit", "hit probability with signal_mean and signal_sd themselves for a and r",
            [](Row row) { return row.uncorrected_hit; }, "as predicted_hit otherwise"),
        make_column(rows, "own_block", "asked pairs in the query's own block, not among the queries",
                    [](Row row) { return row.record->own_block; }),
        make_column(rows, "mean_candidates", "mean over queries of the number of past blocks",
                    [](Row row) {
                        double sum = 0.0;
                        for (const auto& [candidates, count] : row.record->candidates) {
                            sum += static_cast<double>(candidates) * static_cast<double>(count);
                        }
                        return sum / static_cast<double>(row.record->queries);
                    }),
    };
}

}  // namespace

Table training_table(const TrainedOutcomes& outcomes) {
    const Accuracies& rows = outcomes.accuracies;
    Table table{.name = "training",
                .dimension = "evaluation",
                .columns = run_columns(rows, [](const AccuracyOutcome& row) -> const TrainedRun& { return *row.run; })};
    append_columns(table.columns, accuracy_columns(rows));
    append_columns(table.columns, prediction_columns_of(rows));
    return table;
}

Table training_profiles_table(const TrainedOutcomes& outcomes) {
    struct Row {
        const HeadOutcome* head;
        std::int64_t offset;
        double cosine;
    };
    std::vector<Row> rows;
    for (const HeadOutcome& head : outcomes.heads) {
        for (const auto& [offset, cosine] : head.record->profile) {
            rows.push_back({&head, offset, cosine});
        }
    }
    Table table{.name = "training_profiles",
                .dimension = "profile_row",
                .columns = run_columns(rows, [](const Row& row) -> const TrainedRun& { return *row.head->run; })};
    append_columns(
        table.columns,
        {make_column(rows, "variant", variant_column,
                     [](const Row& row) { return variant_text(row.head->record->variant); }),
         make_column(rows, "seq_len", "tokens of a sequence", [](const Row& row) { return row.head->record->seq_len; }),
         make_column(rows, "layer", "layer of the model", [](const Row& row) { return row.head->record->layer; }),
         make_column(rows, "head", "query head", [](const Row& row) { return row.head->record->head; }),
         make_column(rows, "offset", "tokens behind the asked pair's value; below 0: before it",
                     [](const Row& row) { return row.offset; }),
         make_column(rows, "cosine", "mean over queries of the cosine of the query and the key there",
                     [](const Row& row) { return row.cosine; })});
    return table;
}

Table training_heads_table(const TrainedOutcomes& outcomes) {
    const Heads& rows = outcomes.heads;
    Table table{.name = "training_heads",
                .dimension = "head_row",
                .columns = run_columns(rows, [](const HeadOutcome& row) -> const TrainedRun& { return *row.run; })};
    append_columns(table.columns, head_columns(rows));
    for (const HeadStatistic& statistic : head_statistics()) {
        table.columns.push_back(make_column(
            rows, statistic.name, statistic.long_name,
            [&](const HeadOutcome& row) { return row.record->statistic(statistic.name); }, statistic.definition));
    }
    return table;
}

}  // namespace mobalab::experiments
