#include "experiments/advise/measured_evidence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "analysis/routing_point.h"
#include "tests/experiments/advise/synthetic_measure.h"

namespace mobalab::experiments {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(const Table& table, const MeasuredRows& wanted = {}) {
    try {
        measured_evidence(table, wanted, "m.h5");
    } catch (const FileError& error) {
        return std::string("file: ") + error.what();
    } catch (const analysis::InputError& error) {
        return std::string("input: ") + error.what();
    }
    return "accepted";
}

std::vector<MeasureRow> two_heads() {
    std::vector<MeasureRow> rows;
    add_setting(rows, mean_setting(64, 8), {0.5, 0.7});
    add_setting(rows, mean_setting(64, 16), {0.6, 0.8});
    return rows;
}

Table without(Table table, const std::string& name) {
    std::erase_if(table.columns, [&](const Column& column) { return column.name == name; });
    return table;
}

template <typename Value>
Table with(Table table, const std::string& name, std::size_t row, Value value) {
    for (Column& column : table.columns) {
        if (column.name == name) {
            std::get<std::vector<Value>>(column.values).at(row) = value;
        }
    }
    return table;
}

TEST(MeasuredEvidence, HeadsAndSettingsComeOutSorted) {
    std::vector<MeasureRow> rows = two_heads();
    std::reverse(rows.begin(), rows.end());
    const Evidence evidence = measured_evidence(measure_table_of(rows), {}, "m.h5");
    EXPECT_THAT(evidence.heads, ElementsAre(HeadName{0, 0}, HeadName{0, 1}));
    ASSERT_EQ(evidence.candidates.size(), 2U);
    EXPECT_EQ(evidence.candidates[0].setting, mean_setting(64, 8));
    EXPECT_DOUBLE_EQ(evidence.candidates[0].heads[0].recall.value, 0.5);
    EXPECT_DOUBLE_EQ(evidence.candidates[0].heads[1].recall.value, 0.7);
    EXPECT_DOUBLE_EQ(evidence.candidates[1].recall.value, 0.7);
    EXPECT_EQ(evidence.seq_len, 4096);
    EXPECT_EQ(evidence.head_dim, 128);
    EXPECT_TRUE(evidence.notes.empty());
}

TEST(MeasuredEvidence, AHeadOfSeveralTracesCountsOnce) {
    std::vector<MeasureRow> rows = two_heads();
    std::vector<MeasureRow> second = two_heads();
    for (MeasureRow& row : second) {
        row.trace = "b.safetensors";
        row.recall += 0.1;
    }
    rows.insert(rows.end(), second.begin(), second.end());
    const Evidence evidence = measured_evidence(measure_table_of(rows), {}, "m.h5");
    EXPECT_EQ(evidence.heads.size(), 2U);
    EXPECT_NEAR(evidence.candidates[0].heads[0].recall.value, 0.55, 1e-12);
    EXPECT_THAT(evidence.notes, ElementsAre(HasSubstr("several traces counts once")));
    const Evidence one = measured_evidence(measure_table_of(rows), {.traces = {"b.safetensors"}}, "m.h5");
    EXPECT_NEAR(one.candidates[0].heads[0].recall.value, 0.6, 1e-12);
}

TEST(MeasuredEvidence, SettingsThatLackAHeadAreLeftOutAndCounted) {
    std::vector<MeasureRow> rows = two_heads();
    rows.pop_back();
    const Evidence evidence = measured_evidence(measure_table_of(rows), {}, "m.h5");
    ASSERT_EQ(evidence.candidates.size(), 1U);
    EXPECT_THAT(evidence.notes, ElementsAre(HasSubstr("left out 1 of 2 settings")));
}

TEST(MeasuredEvidence, WhatRoutesEverythingOrNothingIsLeftOut) {
    std::vector<MeasureRow> rows = two_heads();
    add_setting(rows, mean_setting(512, 8), {1.0, 1.0});
    add_setting(rows, mean_setting(256, 1), {0.0, 0.0});
    add_setting(rows, mean_setting(512, 7), {0.99, 0.99});
    const Evidence evidence = measured_evidence(measure_table_of(rows), {}, "m.h5");
    ASSERT_EQ(evidence.candidates.size(), 3U);
    EXPECT_EQ(evidence.candidates[2].setting.topk, 7);
    EXPECT_THAT(evidence.notes, ElementsAre(HasSubstr("left out 2 of 5 settings, which keep every block or none")));
    EXPECT_THAT(refusal(measure_table_of(rows), {.block_sizes = {512}, .topks = {8}}),
                HasSubstr("no setting that routes some blocks and leaves some out"));
}

TEST(MeasuredEvidence, MissingNeedlesAreNoZero) {
    std::vector<MeasureRow> rows = two_heads();
    rows[0].needle_hit = unknown;
    rows[1].needle_hit = 0.9;
    const Evidence evidence = measured_evidence(measure_table_of(rows), {}, "m.h5");
    EXPECT_DOUBLE_EQ(evidence.candidates[0].needle_hit, 0.9);
    rows[1].needle_hit = unknown;
    EXPECT_TRUE(std::isnan(measured_evidence(measure_table_of(rows), {}, "m.h5").candidates[0].needle_hit));
}

TEST(MeasuredEvidence, OnlyWantedRowsAreLookedAt) {
    const Table table = measure_table_of(two_heads());
    const Evidence evidence = measured_evidence(table, {.topks = {16}}, "m.h5");
    ASSERT_EQ(evidence.candidates.size(), 1U);
    EXPECT_EQ(evidence.candidates[0].setting.topk, 16);
    EXPECT_THAT(refusal(table, {.topks = {5}}), HasSubstr("input: m.h5: no row"));
    EXPECT_THAT(refusal(table, {.traces = {"c"}}), HasSubstr("it holds traces a.safetensors"));
    EXPECT_THAT(refusal(table, {.keep_first = {true}}), HasSubstr("input: m.h5: no row"));
}

TEST(MeasuredEvidence, WhatNoMeanCanBeTakenOfIsRefused) {
    std::vector<MeasureRow> rows = two_heads();
    rows[2].rope = rows[3].rope = "pre";
    EXPECT_THAT(refusal(measure_table_of(rows)), HasSubstr("of rope post and pre"));
    rows = two_heads();
    rows[0].trace = "long.safetensors";
    rows[0].seq_len = 8192;
    EXPECT_THAT(
        refusal(measure_table_of(rows)),
        HasSubstr("of seq_len 4096 and 8192, of which no mean can be taken; choose with --trace, one or more of "
                  "a.safetensors, long.safetensors"));
}

TEST(MeasuredEvidence, DamagedTablesAreRefusedWithRowAndRule) {
    const Table table = measure_table_of(two_heads());
    for (const Column& column : table.columns) {
        const bool is_read = column.name != "text";
        EXPECT_THAT(refusal(without(table, column.name)),
                    is_read ? HasSubstr("has no column " + column.name) : HasSubstr("accepted"));
    }
    EXPECT_THAT(refusal(with(table, "mass_recall", 1, unknown)), HasSubstr("file: m.h5: row 1"));
    EXPECT_THAT(refusal(with(table, "mass_recall", 1, 1.5)), HasSubstr("must be a number from 0 to 1"));
    EXPECT_THAT(refusal(with(table, "mass_recall_low", 2, 0.9)), HasSubstr("must lie in its interval"));
    EXPECT_THAT(refusal(with(table, "lost_mass_high", 2, -0.1)), HasSubstr("lost_mass_high = -0.1"));
    EXPECT_THAT(refusal(with(table, "distance_r2", 0, 2.0)), HasSubstr("distance_r2 = 2"));
    EXPECT_THAT(refusal(with(table, "topk", 0, std::int64_t{0})), HasSubstr("topk = 0: must be at least 1"));
    EXPECT_THAT(refusal(with(table, "head", 1, std::int64_t{0})), HasSubstr("is there twice"));
    Table other_type = table;
    other_type.columns[0].values = std::vector<double>(table.rows(), 1.0);
    EXPECT_THAT(refusal(other_type), HasSubstr("column trace of its table measure holds no text"));
    EXPECT_THAT(refusal(measure_table_of({})), HasSubstr("has no rows"));
}

}  // namespace
}  // namespace mobalab::experiments
