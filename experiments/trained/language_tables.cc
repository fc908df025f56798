#include "experiments/trained/language_tables.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "analysis/binomial_interval.h"
#include "experiments/trained/run_columns.h"

namespace mobalab::experiments {
namespace {

using analysis::Interval;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr const char* over_documents =
    "t interval over documents (sequences that begin in one are a cluster; where none are recorded, each sequence is "
    "one)";
constexpr const char* paired =
    "mean over sequences of the difference of losses on the same sequence; t interval over documents, or sequences "
    "where "
    "none are recorded";

/// Which of them depend on each other: the same number. Empty: none do.
using Clusters = std::vector<std::int64_t>;

/// Sum over clusters of (sum in the cluster of values - mean)^2, and the number of clusters.
std::pair<double, double> cluster_squares(const std::vector<double>& values, const Clusters& clusters, double mean) {
    std::map<std::int64_t, double> sums;
    for (std::size_t i = 0; i < values.size(); ++i) {
        sums[clusters.empty() ? static_cast<std::int64_t>(i) : clusters[i]] += values[i] - mean;
    }
    double squares = 0.0;
    for (const auto& [cluster, sum] : sums) {
        squares += sum * sum;
    }
    return {squares, static_cast<double>(sums.size())};
}

/// Of a mean over sequences, by the variance of a ratio of sums over clusters; ends NaN where there is one cluster.
Interval mean_interval(const std::vector<double>& values, const Clusters& clusters, double confidence) {
    const auto count = static_cast<double>(values.size());
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
    const auto [squares, groups] = cluster_squares(values, clusters, mean);
    if (groups < 2.0) {
        return {nan, mean, nan};
    }
    const boost::math::students_t law(groups - 1.0);
    const double half = boost::math::quantile(boost::math::complement(law, 0.5 * (1.0 - confidence))) *
                        std::sqrt(squares * groups / (groups - 1.0)) / count;
    return {mean - half, mean, mean + half};
}

/// Loss of each sequence, mean over the dense runs of the same step and length; empty where there is none.
std::vector<double> dense_losses(const TrainingRecords& records, const ValidationRecord& like) {
    std::vector<double> sum;
    double runs = 0.0;
    for (const ValidationRecord& record : records.validations) {
        if (records.run(record.run).attention != "dense" || record.step != like.step ||
            record.seq_len != like.seq_len || record.sequence_loss.size() != like.sequence_loss.size()) {
            continue;
        }
        sum.resize(record.sequence_loss.size());
        std::ranges::transform(sum, record.sequence_loss, sum.begin(), std::plus<>());
        runs += 1.0;
    }
    for (double& loss : sum) {
        loss /= runs;
    }
    return sum;
}

struct ValidationRow {
    const ValidationRecord* record;
    Interval loss;
    Interval less_dense;
};

ValidationRow row_of(const TrainingRecords& records, const ValidationRecord& record, double confidence) {
    const Clusters& documents = record.sequence_document;
    ValidationRow row{&record, mean_interval(record.sequence_loss, documents, confidence), {nan, nan, nan}};
    std::vector<double> differences = dense_losses(records, record);
    if (!differences.empty() && records.run(record.run).attention != "dense") {
        std::ranges::transform(record.sequence_loss, differences, differences.begin(), std::minus<>());
        row.less_dense = mean_interval(differences, documents, confidence);
    }
    return row;
}

/// Of the run's sequences of this length and number, from its record of validation.
Clusters documents_of(const TrainingRecords& records, const PositionRecord& like) {
    for (const ValidationRecord& record : records.validations) {
        if (record.run == like.run && record.seq_len == like.seq_len &&
            record.sequence_document.size() == like.sequence_loss.size()) {
            return record.sequence_document;
        }
    }
    return {};
}

Interval position_loss(const TrainingRecords& records, const PositionRecord& record, double confidence) {
    return record.sequence_loss.empty()
               ? Interval{nan, record.loss, nan}
               : mean_interval(record.sequence_loss, documents_of(records, record), confidence);
}

template <typename Row, typename Get>
void add_interval(Table& table, const std::vector<Row>& rows, const std::string& name, const std::string& long_name,
                  const std::string& definition, Get get) {
    append_columns(table.columns, {make_column(rows, name, long_name, [&](const Row& row) { return get(row).value; }),
                                   make_column(
                                       rows, name + "_low", "lower end of its interval",
                                       [&](const Row& row) { return get(row).low; }, definition),
                                   make_column(
                                       rows, name + "_high", "upper end of its interval",
                                       [&](const Row& row) { return get(row).high; }, definition)});
}

}  // namespace

Table training_validation_table(const TrainingRecords& records, double confidence) {
    std::vector<ValidationRow> rows;
    for (const ValidationRecord& record : records.validations) {
        rows.push_back(row_of(records, record, confidence));
    }
    using Row = const ValidationRow&;
    Table table{
        .name = "training_validation",
        .dimension = "validation",
        .columns = run_columns(rows, [&](Row row) -> const TrainedRun& { return records.run(row.record->run); })};
    append_columns(table.columns,
                   {make_column(rows, "step", "steps trained", [](Row row) { return row.record->step; }),
                    make_column(rows, "seq_len", "tokens of a sequence", [](Row row) { return row.record->seq_len; }),
                    make_column(rows, "tokens", "tokens evaluated", [](Row row) { return row.record->tokens; }),
                    make_column(rows, "sequences", "sequences evaluated",
                                [](Row row) { return static_cast<std::int64_t>(row.record->sequence_loss.size()); })});
    add_interval(table, rows, "loss", "loss on validation text, nats a token", over_documents,
                 [](Row row) { return row.loss; });
    add_interval(table, rows, "loss_above_dense", "loss less that of the dense runs' mean, nats a token", paired,
                 [](Row row) { return row.less_dense; });
    return table;
}

Table training_positions_table(const TrainingRecords& records, double confidence) {
    const std::vector<PositionRecord>& rows = records.positions;
    using Row = const PositionRecord&;
    Table table{.name = "training_positions",
                .dimension = "range",
                .columns = run_columns(rows, [&](Row row) -> const TrainedRun& { return records.run(row.run); })};
    append_columns(table.columns,
                   {make_column(rows, "seq_len", "tokens of a sequence", [](Row row) { return row.seq_len; }),
                    make_column(rows, "position_low", "first position", [](Row row) { return row.from; }),
                    make_column(rows, "position_high", "position behind the last", [](Row row) { return row.to; }),
                    make_column(rows, "tokens", "tokens evaluated", [](Row row) { return row.tokens; })});
    add_interval(table, rows, "loss", "loss at these positions, nats a token", over_documents,
                 [&](Row row) { return position_loss(records, row, confidence); });
    return table;
}

Table training_needles_table(const TrainingRecords& records, double confidence) {
    const std::vector<NeedleRecord>& rows = records.needles;
    using Row = const NeedleRecord&;
    Table table{.name = "training_needles",
                .dimension = "needle",
                .columns = run_columns(rows, [&](Row row) -> const TrainedRun& { return records.run(row.run); })};
    append_columns(
        table.columns,
        {make_column(rows, "seq_len", "tokens of a text", [](Row row) { return row.seq_len; }),
         make_column(rows, "depth", "where the needle stands: 0 first, 1 last", [](Row row) { return row.depth; }),
         make_column(rows, "asked", "texts, each with a needle", [](Row row) { return row.asked; }),
         make_column(rows, "correct", "of these: answered", [](Row row) { return row.correct; })});
    add_interval(table, rows, "accuracy", "share of needles answered",
                 "Clopper-Pearson; each needle in a text of its own", [&](Row row) {
                     return analysis::clopper_pearson(static_cast<double>(row.correct), static_cast<double>(row.asked),
                                                      1.0 - confidence);
                 });
    return table;
}

}  // namespace mobalab::experiments
