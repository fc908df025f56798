#include "experiments/trained/run_tables.h"

#include <limits>

#include "experiments/trained/run_columns.h"

namespace mobalab::experiments {
namespace {

constexpr std::int64_t none = -1;

Column seconds_column(Column column) {
    column.units = std::string("s");
    return column;
}

Column loss_column(Column column) {
    column.definition = std::string("nats");
    return column;
}

Column with_missing(Column column) {
    column.missing = none;
    return column;
}

double share(std::int64_t part, std::int64_t whole) {
    return part < 0 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

Table training_runs_table(const TrainingRecords& records) {
    const std::vector<TrainedRun>& rows = records.runs;
    using Row = const TrainedRun&;
    Table table{.name = "training_runs",
                .dimension = "trained_model",
                .columns = run_columns(rows, [](Row row) -> const TrainedRun& { return row; })};
    append_columns(
        table.columns,
        {
            make_column(rows, "heads", "query heads of a layer", [](Row row) { return row.heads; }),
            make_column(rows, "layers", "layers", [](Row row) { return row.layers; }),
            make_column(rows, "width", "channels of a token", [](Row row) { return row.width; }),
            make_column(rows, "parameters", "parameters", [](Row row) { return row.parameters; }),
            with_missing(make_column(rows, "window", "keys of the sliding window of the other layers",
                                     [](Row row) { return row.window; })),
            with_missing(
                make_column(rows, "vocabulary", "tokens that there are", [](Row row) { return row.vocabulary; })),
            with_missing(make_column(rows, "corpus_tokens", "tokens of the text to train on",
                                     [](Row row) { return row.corpus_tokens; })),
            make_column(rows, "corpus_sha256", "digest of that text", [](Row row) { return row.corpus_sha256; }),
            with_missing(make_column(rows, "needle_tokens", "tokens trained on that belong to planted pairs",
                                     [](Row row) { return row.needle_tokens; })),
            make_column(rows, "steps", "steps of the optimiser", [](Row row) { return row.steps; }),
            make_column(rows, "tokens", "tokens trained on", [](Row row) { return row.tokens; }),
            seconds_column(make_column(rows, "seconds", "time the training took", [](Row row) { return row.seconds; })),
            make_column(rows, "stages", "lengths of the curriculum, with steps and accuracy at their end",
                        [](Row row) { return row.stages; }),
            with_missing(make_column(rows, "learned", "1: went through its curriculum; 0: did not",
                                     [](Row row) { return row.learned; })),
            make_column(rows, "device", "where it was trained", [](Row row) { return row.device; }),
            make_column(rows, "torch", "version of PyTorch", [](Row row) { return row.torch; }),
            make_column(rows, "commit", "commit of the program that trained it", [](Row row) { return row.commit; }),
        });
    return table;
}

Table training_curves_table(const TrainingRecords& records) {
    const std::vector<CurveRecord>& rows = records.curves;
    using Row = const CurveRecord&;
    Table table{.name = "training_curves",
                .dimension = "look",
                .columns = run_columns(rows, [&](Row row) -> const TrainedRun& { return records.run(row.run); })};
    append_columns(
        table.columns,
        {
            make_column(rows, "step", "steps so far", [](Row row) { return row.step; }),
            make_column(rows, "seq_len", "tokens of a sequence at this step", [](Row row) { return row.seq_len; }),
            make_column(rows, "tokens", "tokens trained on so far", [](Row row) { return row.tokens; }),
            loss_column(make_column(rows, "loss", "loss of the batches", [](Row row) { return row.loss; })),
            make_column(rows, "accuracy", "share of asked pairs of the batches answered",
                        [](Row row) { return row.accuracy; }),
            with_missing(make_column(rows, "measured_seq_len", "length that what follows was measured at",
                                     [](Row row) { return row.measured_seq_len; })),
            make_column(rows, "measured_accuracy", "share of asked pairs answered at that length",
                        [](Row row) { return row.measured_accuracy; }),
            with_missing(
                make_column(rows, "layer", "MoBA layer that retrieves best", [](Row row) { return row.layer; })),
            make_column(
                rows, "hit", "share of queries that hit", [](Row row) { return share(row.hits, row.queries); },
                "the heads of that layer together"),
            with_missing(make_column(rows, "hits", "queries that hit", [](Row row) { return row.hits; })),
            with_missing(make_column(rows, "queries", "queries of that layer", [](Row row) { return row.queries; })),
            make_column(rows, "signal_mean", "mean of the standardised score of the pair's block",
                        [](Row row) { return row.signal_mean; }),
            make_column(rows, "signal_sd", "its standard deviation", [](Row row) { return row.signal_sd; }),
            seconds_column(make_column(rows, "seconds", "time since the start", [](Row row) { return row.seconds; })),
        });
    return table;
}

}  // namespace mobalab::experiments
