#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "experiments/cli/progress.h"
#include "experiments/results/table_text.h"

namespace mobalab::experiments {
namespace {

Table sample() {
    return {.name = "sample",
            .columns = {{"model", "", "", std::vector<std::string>{"sphere", "sphere"}},
                        {"head_dim", "", "1", std::vector<std::int64_t>{64, 128}},
                        {"miss", "", "1", std::vector<double>{0.25, 1e-12}}}};
}

TEST(TableText, WhatIsTheSameEverywhereGoesAbove) {
    EXPECT_EQ(human_table(sample(), {{"model", "model"}, {"head_dim", "d"}}, {{"miss", "miss"}}),
              "model sphere\n\n"
              "  d   miss\n"
              " 64   0.25\n"
              "128  1e-12\n");
}

TEST(TableText, AnswersStayColumnsEvenWhenEqual) {
    Table table = sample();
    table.columns[2].values = std::vector<double>{0.5, 0.5};
    EXPECT_EQ(human_table(table, {{"model", "model"}, {"head_dim", "d"}}, {{"miss", "miss"}}),
              "model sphere\n\n  d  miss\n 64   0.5\n128   0.5\n");
}

TEST(TableText, WhatWasNotAskedForIsLeftOut) {
    Table table = sample();
    table.columns[1].values = std::vector<std::int64_t>{0, 0};
    const std::vector<ShownColumn> parameters = {{"head_dim", "N", true}, {"model", "model"}};
    EXPECT_EQ(human_table(table, parameters, {{"miss", "miss"}}), "model sphere\n\n miss\n 0.25\n1e-12\n");
    table.columns[1].values = std::vector<std::int64_t>{0, 5};
    EXPECT_EQ(human_table(table, parameters, {{"miss", "miss"}}), "model sphere\n\nN   miss\n0   0.25\n5  1e-12\n");
}

TEST(TableText, WhatARowDoesNotHaveIsADash) {
    Table table = sample();
    table.columns[1].missing = 64;
    table.columns[2].values = std::vector<double>{0.25, NAN};
    EXPECT_EQ(human_table(table, {{"model", "model"}, {"needles", "R"}}, {{"head_dim", "d"}, {"miss", "miss"}}),
              "model sphere\n\n  d  miss\n  -  0.25\n128     -\n")
        << "and a parameter the table does not have is left out";
    const auto rows = nlohmann::json::parse(json_table(table));
    EXPECT_TRUE(rows[0]["head_dim"].is_null());
    EXPECT_EQ(rows[1]["head_dim"], 128);
}

TEST(TableText, JsonKeepsEveryDigitAndNamesWhatIsNotANumber) {
    Table table = sample();
    table.columns[2].values = std::vector<double>{0.1 + 0.2, NAN};
    const auto rows = nlohmann::json::parse(json_table(table));
    ASSERT_EQ(rows.size(), 2U);
    EXPECT_EQ(rows[0]["model"], "sphere");
    EXPECT_EQ(rows[1]["head_dim"], 128);
    EXPECT_EQ(rows[0]["miss"].get<double>(), 0.1 + 0.2);
    EXPECT_TRUE(rows[1]["miss"].is_null());
}

/// A display whose time stands still until it is moved.
class Progress : public testing::Test {
protected:
    ProgressDisplay display(bool is_tty) {
        terminal_.err_is_tty = is_tty;
        return {terminal_, "simulate", [this] { return now_; }};
    }

    std::ostringstream out_;
    std::ostringstream err_;
    Terminal terminal_{out_, err_, true};
    ProgressDisplay::Clock::time_point now_{};
};

TEST_F(Progress, ShortCommandsStaySilent) {
    {
        ProgressDisplay shown = display(true);
        now_ += std::chrono::milliseconds(199);
        shown.update(0.5, "point 1 of 2");
    }
    EXPECT_EQ(err_.str(), "");
}

TEST_F(Progress, ATerminalGetsOneLineThatIsClearedAtTheEnd) {
    {
        ProgressDisplay shown = display(true);
        now_ += std::chrono::seconds(20);
        shown.update(0.25, "point 1 of 2");
        EXPECT_EQ(err_.str(), "\rsimulate:  25 %  point 1 of 2  20 s, about 1 min 0 s left");
    }
    EXPECT_EQ(err_.str().back(), '\r');
    EXPECT_EQ(err_.str().find('\n'), std::string::npos);
}

TEST_F(Progress, ALogGetsALineEveryFewSeconds) {
    ProgressDisplay shown = display(false);
    shown.start_at(0.5);
    now_ += std::chrono::milliseconds(4999);
    shown.update(0.5, "point 1 of 2");
    now_ += std::chrono::milliseconds(1);
    shown.update(0.5, "point 1 of 2");
    now_ += std::chrono::seconds(5);
    shown.update(0.75, "point 2 of 2");
    EXPECT_EQ(err_.str(),
              "simulate:  50 %  point 1 of 2  5 s, time left unknown\n"
              "simulate:  75 %  point 2 of 2  10 s, about 10 s left\n");
}

TEST_F(Progress, AProgramGetsAnObjectALine) {
    terminal_.json_progress = true;
    ProgressDisplay shown = display(true);
    now_ += std::chrono::milliseconds(99);
    shown.update(0.25, "early");
    shown.update(0.25, "point 1", PointState{.point = 0, .trials = 9, .misses = 2, .finished = true});
    now_ += std::chrono::milliseconds(99);
    shown.update(0.5, "early", PointState{.point = 1, .trials = 5, .misses = 2, .finished = false});
    now_ += std::chrono::milliseconds(802);
    shown.update(0.5, "\"B\" 16\n", PointState{.point = 1, .trials = 7, .misses = {}, .finished = false});
    std::istringstream lines(err_.str());
    std::vector<nlohmann::json> read;
    for (std::string line; std::getline(lines, line);) {
        read.push_back(nlohmann::json::parse(line));
    }
    ASSERT_EQ(read.size(), 2U) << err_.str();
    EXPECT_EQ(read[0]["progress"], 0.25);
    EXPECT_EQ(read[0]["text"], "point 1");
    EXPECT_NEAR(read[0]["seconds_left"].get<double>(), 0.297, 1e-12);
    EXPECT_EQ(read[0]["trials"], 9);
    EXPECT_EQ(read[0]["misses"], 2);
    EXPECT_EQ(read[0]["finished"], true);
    EXPECT_EQ(read[1], nlohmann::json::parse(R"({"progress": 0.5, "text": "\"B\" 16\n", "seconds": 1.0,
        "seconds_left": 1.0, "point": 1, "trials": 7, "misses": null, "finished": false})"));
}

TEST_F(Progress, Durations) {
    EXPECT_EQ(duration_text(0.2), "0 s");
    EXPECT_EQ(duration_text(59.4), "59 s");
    EXPECT_EQ(duration_text(59.6), "1 min 0 s");
    EXPECT_EQ(duration_text(200), "3 min 20 s");
    EXPECT_EQ(duration_text(7500), "2 h 5 min");
    EXPECT_EQ(duration_text(-1), "0 s");
}

}  // namespace
}  // namespace mobalab::experiments
