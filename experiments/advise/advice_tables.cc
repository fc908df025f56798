#include "experiments/advise/advice_tables.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <type_traits>

#include "experiments/advise/advice_text.h"
#include "experiments/results/column_builder.h"

namespace mobalab::experiments {
namespace {

constexpr const char* interval_of_mean =
    "mean over heads of the ends of their intervals, which are clustered by query blocks: right where all heads err "
    "together, wider than needed elsewhere";

struct SettingRow {
    const Candidate* candidate;
    bool on_frontier;
    bool chosen;
    bool advisable;
};

struct HeadRow {
    const Candidate* candidate;
    HeadName name;
    const HeadLoss* loss;
};

std::int64_t flag(bool on) {
    return on ? 1 : 0;
}

std::vector<Column> setting_columns(const auto& rows) {
    using Row = std::decay_t<decltype(rows.front())>;
    const auto setting = [](const Row& row) -> const Setting& { return row.candidate->setting; };
    return {
        make_column(rows, "scorer", "how a query scores a block", [=](const Row& row) { return setting(row).scorer; }),
        make_column(rows, "block_size", "keys of a block", [=](const Row& row) { return setting(row).block_size; }),
        make_column(rows, "topk", "blocks a query attends to, its own included",
                    [=](const Row& row) { return setting(row).topk; }),
        make_column(rows, "sub_blocks", "parts of a block that are scored one by one",
                    [=](const Row& row) { return setting(row).sub_blocks; }),
        make_column(rows, "keep_first", "1: block 0 is always kept, and is one of the topk",
                    [=](const Row& row) { return flag(setting(row).keep_first); }),
    };
}

void append(std::vector<Column>& columns, std::vector<Column> more) {
    std::move(more.begin(), more.end(), std::back_inserter(columns));
}

std::vector<Column> answer_columns(const std::vector<SettingRow>& rows, const Evidence& evidence) {
    using Row = const SettingRow&;
    const std::int64_t seq_len = evidence.seq_len;
    const auto heads = std::ssize(evidence.heads);
    std::vector<Column> columns = {
        make_column(rows, "seq_len", "tokens that recall and hits are of", [=](Row) { return seq_len; }),
        make_column(rows, "heads", "heads that means are over; 0: no trace",
                    [=](Row) { return static_cast<std::int64_t>(heads); }),
        make_column(rows, "source", "where recall and hits come from: measured, exact, normal approximation",
                    [](Row row) { return row.candidate->source; }),
        make_column(rows, "mean_mass_recall", "share of the candidates' softmax mass that is routed, mean over heads",
                    [](Row row) { return row.candidate->recall.value; }),
        make_column(
            rows, "mean_mass_recall_low", "lower end of the interval of mean_mass_recall",
            [](Row row) { return row.candidate->recall.low; }, interval_of_mean),
        make_column(
            rows, "mean_mass_recall_high", "upper end of the interval of mean_mass_recall",
            [](Row row) { return row.candidate->recall.high; }, interval_of_mean),
        make_column(rows, "worst_head_recall", "smallest mass recall of a head",
                    [](Row row) { return row.candidate->worst_head; }),
        make_column(
            rows, "mean_needle_hit", "share of needles whose block is routed, mean over heads",
            [](Row row) { return row.candidate->needle_hit; }, "without a trace the probability of the source's law"),
        make_column(rows, "keys_attended", "keys a query attends to at most, topk * block_size",
                    [](Row row) { return static_cast<double>(row.candidate->setting.keys()); }),
        make_column(rows, "milliseconds", "forward pass by the kernel table",
                    [](Row row) { return row.candidate->milliseconds; }),
        make_column(rows, "can_be_advised", "1: a scorer of the kernels that looks at the keys; 0: a reference",
                    [](Row row) { return flag(row.advisable); }),
        make_column(rows, "on_frontier",
                    "1: no setting that can be advised finds as much for less, or more for as much",
                    [](Row row) { return flag(row.on_frontier); }),
        make_column(rows, "chosen", "1: the recommendation", [](Row row) { return flag(row.chosen); }),
    };
    std::find_if(columns.begin(), columns.end(), [](const Column& c) { return c.name == "milliseconds"; })->units =
        "ms";
    return columns;
}

Table settings_table(const Evidence& evidence, const Advice& advice, const std::vector<std::size_t>& candidates) {
    const std::vector<std::size_t>& frontier = advice.frontier;
    std::vector<SettingRow> rows;
    for (const std::size_t i : candidates) {
        rows.push_back({&evidence.candidates[i], std::find(frontier.begin(), frontier.end(), i) != frontier.end(),
                        advice.chosen == i, can_be_advised(evidence.candidates[i].setting.scorer)});
    }
    Table table{.name = "advise", .dimension = "setting", .columns = setting_columns(rows)};
    append(table.columns, answer_columns(rows, evidence));
    return table;
}

std::vector<Column> loss_columns(const std::vector<HeadRow>& rows) {
    using Row = const HeadRow&;
    return {
        make_column(rows, "layer", "layer of the model", [](Row row) { return row.name.layer; }),
        make_column(rows, "head", "query head", [](Row row) { return row.name.head; }),
        make_column(rows, "mass_recall", "share of the candidates' softmax mass that is routed",
                    [](Row row) { return row.loss->recall.value; }),
        make_column(rows, "mass_recall_low", "lower end of its interval", [](Row row) { return row.loss->recall.low; }),
        make_column(rows, "mass_recall_high", "upper end of its interval",
                    [](Row row) { return row.loss->recall.high; }),
        make_column(rows, "lost_mass", "softmax mass that is not attended to",
                    [](Row row) { return row.loss->lost_mass.value; }),
        make_column(rows, "needle_hit", "share of rows whose needle is routed",
                    [](Row row) { return row.loss->needle_hit; }),
        make_column(rows, "distance_r2", "share of the variance of scores that block distance explains",
                    [](Row row) { return row.loss->distance_r2; }),
    };
}

std::vector<HeadRow> head_rows(const Evidence& evidence, std::size_t candidate) {
    std::vector<HeadRow> rows;
    for (std::size_t h = 0; h < evidence.heads.size(); ++h) {
        rows.push_back({&evidence.candidates[candidate], evidence.heads[h], &evidence.candidates[candidate].heads[h]});
    }
    return rows;
}

Table heads_table(const Evidence& evidence, std::size_t chosen, double dense_below) {
    const std::vector<HeadRow> rows = head_rows(evidence, chosen);
    using Row = const HeadRow&;
    Table table{.name = "advise_heads", .dimension = "head_row", .columns = loss_columns(rows)};
    table.columns.push_back(make_column(
        rows, "stay_dense", "1: should keep dense attention",
        [=](Row row) { return flag(row.loss->recall.high < dense_below); }, "mass_recall_high < dense_below"));
    table.columns.push_back(make_column(rows, "why", "what decided stay_dense",
                                        [=](Row row) { return verdict_on(*row.loss, dense_below); }));
    table.attributes["dense_below"] = dense_below;
    return table;
}

Table frontier_heads_table(const Evidence& evidence, const Advice& advice) {
    std::vector<HeadRow> rows;
    for (const std::size_t candidate : advice.frontier) {
        const std::vector<HeadRow> more = head_rows(evidence, candidate);
        rows.insert(rows.end(), more.begin(), more.end());
    }
    Table table{.name = "advise_frontier_heads", .dimension = "frontier_row", .columns = setting_columns(rows)};
    append(table.columns, loss_columns(rows));
    return table;
}

}  // namespace

std::vector<Table> advice_tables(const Evidence& evidence, const Advice& advice, double dense_below) {
    std::vector<std::size_t> all(evidence.candidates.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    std::vector<Table> tables = {settings_table(evidence, advice, all)};
    if (evidence.measured) {
        if (advice.chosen) {
            tables.push_back(heads_table(evidence, *advice.chosen, dense_below));
        }
        tables.push_back(frontier_heads_table(evidence, advice));
    }
    return tables;
}

Table frontier_table(const Evidence& evidence, const Advice& advice) {
    return settings_table(evidence, advice, advice.frontier);
}

}  // namespace mobalab::experiments
