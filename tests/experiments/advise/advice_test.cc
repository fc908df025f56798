#include "experiments/advise/advice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "analysis/routing_point.h"
#include "experiments/advise/advice_tables.h"
#include "experiments/advise/advice_text.h"
#include "experiments/advise/length_rule.h"
#include "experiments/advise/measured_evidence.h"
#include "tests/experiments/advise/synthetic_measure.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;
using testing::ElementsAre;
using testing::HasSubstr;

Setting setting(const std::string& scorer, std::int64_t block_size, std::int64_t topk, bool keep_first = false) {
    return {.scorer = scorer, .block_size = block_size, .topk = topk, .sub_blocks = 1, .keep_first = keep_first};
}

Evidence evidence_of(const std::vector<MeasureRow>& rows, const MeasuredRows& wanted = {}) {
    return measured_evidence(measure_table_of(rows), wanted, "m.h5");
}

/// Two heads; recalls chosen so that at 1024 keys quest with block 0 wins by more than the intervals.
std::vector<MeasureRow> known_rows() {
    std::vector<MeasureRow> rows;
    add_setting(rows, mean_setting(64, 8), {0.50, 0.30});
    add_setting(rows, mean_setting(64, 16), {0.60, 0.40});
    add_setting(rows, mean_setting(64, 16, true), {0.80, 0.50});
    add_setting(rows, setting("quest", 64, 16, true), {0.90, 0.60});
    add_setting(rows, setting("quest", 32, 64, true), {0.95, 0.75});
    add_setting(rows, setting("quest", 128, 8), {0.55, 0.45});
    add_setting(rows, setting("window", 64, 16, true), {0.70, 0.50});
    add_setting(rows, setting("oracle", 64, 16), {0.97, 0.90});
    add_setting(rows, setting("random", 64, 16), {0.99, 0.99});  // never advised, however good
    return rows;
}

const Setting& chosen(const Evidence& evidence, const Advice& advice) {
    return evidence.candidates.at(advice.chosen.value()).setting;
}

TEST(Advice, TheBestRecallWithinABudgetOfKeysIsChosen) {
    const Evidence evidence = evidence_of(known_rows());
    const Advice advice = advise(evidence, {Budget::Kind::keys, 1024}, 0.5);
    EXPECT_EQ(chosen(evidence, advice), setting("quest", 64, 16, true));
    EXPECT_TRUE(advice.rivals.empty());
    EXPECT_EQ(chosen(evidence, advise(evidence, {Budget::Kind::keys, 1023}, 0.5)), mean_setting(64, 8));
    EXPECT_EQ(chosen(evidence, advise(evidence, {Budget::Kind::keys, 1e6}, 0.5)), setting("quest", 32, 64, true));
}

TEST(Advice, ReferencesAreComparedWithAndNeverChosen) {
    const Evidence evidence = evidence_of(known_rows());
    const Advice advice = advise(evidence, {Budget::Kind::keys, 1024}, 0.5);
    EXPECT_EQ(evidence.candidates[advice.oracle.value()].setting.scorer, "oracle");
    EXPECT_EQ(evidence.candidates[advice.best_reference.value()].setting.scorer, "random");
    for (const std::size_t i : advice.frontier) {
        EXPECT_TRUE(can_be_advised(evidence.candidates[i].setting.scorer));
    }
    // With less keys than a reference takes it is no comparison.
    EXPECT_FALSE(advise(evidence, {Budget::Kind::keys, 512}, 0.5).oracle.has_value());
}

TEST(Advice, TheFrontierIsWhatNothingCheaperReaches) {
    const Evidence evidence = evidence_of(known_rows());
    const Advice advice = advise(evidence, {Budget::Kind::keys, 1024}, 0.5);
    std::vector<Setting> frontier;
    for (const std::size_t i : advice.frontier) {
        frontier.push_back(evidence.candidates[i].setting);
    }
    EXPECT_THAT(frontier,
                ElementsAre(mean_setting(64, 8), setting("quest", 64, 16, true), setting("quest", 32, 64, true)));
}

TEST(Advice, ARecallIsReachedByTheLowEnd) {
    std::vector<MeasureRow> rows;
    add_setting(rows, mean_setting(64, 8), {0.80, 0.80}, 0.05);   // 0.75 to 0.85
    add_setting(rows, mean_setting(64, 16), {0.84, 0.84}, 0.02);  // 0.82 to 0.86
    add_setting(rows, mean_setting(64, 32), {0.95, 0.95}, 0.01);
    const Evidence evidence = evidence_of(rows);
    EXPECT_EQ(chosen(evidence, advise(evidence, {Budget::Kind::recall, 0.75 - 1e-9}, 0.5)), mean_setting(64, 8));
    EXPECT_EQ(chosen(evidence, advise(evidence, {Budget::Kind::recall, 0.80}, 0.5)), mean_setting(64, 16));
    EXPECT_EQ(chosen(evidence, advise(evidence, {Budget::Kind::recall, 0.83}, 0.5)), mean_setting(64, 32));
    const Advice none = advise(evidence, {Budget::Kind::recall, 0.945}, 0.5);
    EXPECT_FALSE(none.chosen.has_value());
    EXPECT_EQ(evidence.candidates[none.nearest.value()].setting, mean_setting(64, 32));
}

TEST(Advice, SettingsWhoseIntervalsOverlapAreSaidToBeRivals) {
    std::vector<MeasureRow> rows;
    add_setting(rows, mean_setting(32, 32), {0.82, 0.60, 0.70}, 0.05);
    add_setting(rows, mean_setting(64, 16), {0.80, 0.62, 0.66}, 0.05);  // mean 0.6933 against 0.7067
    add_setting(rows, mean_setting(128, 8), {0.50, 0.40, 0.40}, 0.05);  // far below
    add_setting(rows, mean_setting(64, 64), {0.82, 0.60, 0.70}, 0.05);  // as good and beyond the budget
    const Evidence evidence = evidence_of(rows);
    const Advice advice = advise(evidence, {Budget::Kind::keys, 1024}, 0.5);
    EXPECT_EQ(chosen(evidence, advice), mean_setting(32, 32));
    ASSERT_EQ(advice.rivals.size(), 1U);
    EXPECT_EQ(evidence.candidates[advice.rivals[0].candidate].setting, mean_setting(64, 16));
    EXPECT_EQ(advice.rivals[0].heads_ahead, 2);
    EXPECT_EQ(advice.rivals[0].heads_behind, 1);
    EXPECT_THAT(advice_notes(evidence, advice, 0.5),
                testing::Contains(
                    HasSubstr("cannot be told apart from it on these rows (intervals overlap): mean, B 64, "
                              "k 16 (0.693 (0.643 to 0.743); the chosen one recalls more on 2 heads and less on 1)")));
    std::vector<MeasureRow> narrow = rows;
    for (MeasureRow& row : narrow) {
        row.half_width = 0.006;
    }
    const Evidence sure = evidence_of(narrow);
    EXPECT_TRUE(advise(sure, {Budget::Kind::keys, 1024}, 0.5).rivals.empty());
}

TEST(Advice, EqualAnswersGoToTheCheaperOne) {
    std::vector<MeasureRow> rows;
    add_setting(rows, mean_setting(64, 16), {0.7, 0.7});
    add_setting(rows, mean_setting(64, 8), {0.7, 0.7});
    const Evidence evidence = evidence_of(rows);
    const Advice advice = advise(evidence, {Budget::Kind::keys, 4096}, 0.5);
    EXPECT_EQ(chosen(evidence, advice), mean_setting(64, 8));
    EXPECT_EQ(advice.frontier.size(), 1U);
}

TEST(Advice, AMeanOverHeadsHasTheMeanOfTheirIntervals) {
    std::vector<MeasureRow> rows;
    add_setting(rows, mean_setting(64, 8), {0.2, 0.6});
    rows[0].half_width = 0.1;
    rows[1].half_width = 0.3;
    const Estimate recall = evidence_of(rows).candidates.at(0).recall;
    EXPECT_DOUBLE_EQ(recall.value, 0.4);
    EXPECT_DOUBLE_EQ(recall.low, 0.2);
    EXPECT_DOUBLE_EQ(recall.high, 0.6);
    EXPECT_DOUBLE_EQ(evidence_of(rows).candidates.at(0).worst_head, 0.2);
}

TEST(Advice, HeadsWhoseWholeIntervalIsUnderTheThresholdStayDense) {
    std::vector<MeasureRow> rows;
    add_setting(rows, mean_setting(64, 16), {0.40, 0.48, 0.80, 0.90}, 0.03);
    const Evidence evidence = evidence_of(rows);
    const Advice advice = advise(evidence, {Budget::Kind::keys, 1024}, 0.5);
    EXPECT_THAT(advice.dense.heads, ElementsAre(0U));  // head 1 reaches 0.51
    EXPECT_DOUBLE_EQ(advice.dense.recall.value, (1.0 + 0.48 + 0.80 + 0.90) / 4);
    EXPECT_DOUBLE_EQ(advice.dense.keys, (4096.0 + 3 * 1024.0) / 4);
    const std::vector<Table> tables = advice_tables(evidence, advice, 0.5);
    ASSERT_EQ(tables.size(), 3U);
    EXPECT_EQ(tables[1].name, "advise_heads");
    EXPECT_THAT(tables[1].integers("stay_dense"), ElementsAre(1, 0, 0, 0));
    EXPECT_THAT(tables[1].texts("why")[0], HasSubstr("at most 0.430, under 0.5"));
    EXPECT_THAT(tables[1].texts("why")[1], HasSubstr("may be under 0.5"));
    EXPECT_TRUE(advise(evidence, {Budget::Kind::keys, 1024}, 0.0).dense.heads.empty());
    EXPECT_EQ(advise(evidence, {Budget::Kind::keys, 1024}, 1.0).dense.heads.size(), 4U);
}

TEST(Advice, TheTableHoldsEverySettingAndWhatWasChosen) {
    const Evidence evidence = evidence_of(known_rows());
    const Advice advice = advise(evidence, {Budget::Kind::keys, 1024}, 0.5);
    const std::vector<Table> tables = advice_tables(evidence, advice, 0.5);
    const Table& table = tables.front();
    EXPECT_EQ(table.name, "advise");
    ASSERT_EQ(table.rows(), 9U);
    for (std::size_t row = 0; row < table.rows(); ++row) {
        const bool is_chosen = table.texts("scorer")[row] == "quest" && table.integers("block_size")[row] == 64;
        EXPECT_EQ(table.integers("chosen")[row], is_chosen ? 1 : 0) << row;
        EXPECT_EQ(table.integers("heads")[row], 2);
        EXPECT_EQ(table.integers("seq_len")[row], 4096);
        EXPECT_EQ(table.reals("keys_attended")[row],
                  static_cast<double>(table.integers("block_size")[row] * table.integers("topk")[row]));
        EXPECT_TRUE(std::isnan(table.reals("milliseconds")[row]));
    }
    EXPECT_EQ(tables[2].rows(), 2 * advice.frontier.size());
}

TEST(Advice, TheSentenceNamesSettingRecallAndCost) {
    const Evidence evidence = evidence_of(known_rows());
    const Budget budget{Budget::Kind::keys, 1024};
    EXPECT_EQ(
        recommendation(evidence, advise(evidence, budget, 0.5), budget),
        "Take scorer quest with block 0 kept, B 64, k 16: it keeps 0.750 (0.740 to 0.760) of the attention to past "
        "blocks on average over 2 heads and 0.600 on the worst, for 1024 keys a query.");
    const Budget tiny{Budget::Kind::keys, 10};
    EXPECT_THAT(recommendation(evidence, advise(evidence, tiny, 0.5), tiny),
                HasSubstr("No setting with at most 10 keys a query; nearest is mean, B 64, k 8"));
}

TEST(LengthRule, TheMeasuredLengthNeedsNoWarning) {
    EXPECT_EQ(length_warning(evidence_of(known_rows()), 4096), "");
}

TEST(LengthRule, UpToTwiceTheLengthIsShownWithAWarning) {
    const Evidence evidence = evidence_of(known_rows());
    for (const std::int64_t asked : {2048, 4095, 4097, 8192}) {
        EXPECT_THAT(length_warning(evidence, asked),
                    HasSubstr("measured at N 4096, not at N " + std::to_string(asked)));
    }
}

TEST(LengthRule, BeyondThatNothingIsSaidWhereDistanceExplainsTheScores) {
    const Evidence evidence = evidence_of(known_rows());
    for (const std::int64_t asked : {2047, 8193, 65536}) {
        try {
            length_warning(evidence, asked);
            FAIL() << asked;
        } catch (const InputError& error) {
            EXPECT_THAT(error.what(), HasSubstr("distance explains 0.8 of the variance"));
            EXPECT_THAT(error.what(), HasSubstr(asked < 4096 ? "nearest valid: 2048" : "nearest valid: 8192"));
        }
    }
}

TEST(LengthRule, OnlyScoresOfAdvisedScorersCountAndUnknownIsNoLicence) {
    std::vector<MeasureRow> rows = known_rows();
    for (MeasureRow& row : rows) {
        row.distance_r2 = can_be_advised(row.setting.scorer) ? 0.1 : 0.9;
    }
    EXPECT_THAT(length_warning(evidence_of(rows), 65536), HasSubstr("finds less there"));
    for (MeasureRow& row : rows) {
        row.distance_r2 = can_be_advised(row.setting.scorer) ? unknown : 0.1;
    }
    EXPECT_THROW(length_warning(evidence_of(rows), 65536), InputError);
}

}  // namespace
}  // namespace mobalab::experiments
