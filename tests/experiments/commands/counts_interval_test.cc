#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "analysis/binomial_interval.h"
#include "tests/experiments/captured.h"

namespace mobalab::experiments {
namespace {

TEST(CountsInterval, IsThatOfTheLibrary) {
    const Captured run =
        run_captured(words("interval --misses 0,3,3,100,0 --trials 1000,100,100,100,0 --confidence 0.9 --json"));
    ASSERT_EQ(run.code, 0) << run.err;
    const auto rows = nlohmann::json::parse(run.out);
    ASSERT_EQ(rows.size(), 5);
    const std::vector<std::pair<double, double>> counts = {{0, 1000}, {3, 100}, {3, 100}, {100, 100}};
    for (std::size_t i = 0; i < counts.size(); ++i) {
        const analysis::Interval wanted = analysis::clopper_pearson(counts[i].first, counts[i].second, 1.0 - 0.9);
        EXPECT_EQ(rows[i]["low"], wanted.low);
        EXPECT_EQ(rows[i]["miss"], wanted.value);
        EXPECT_EQ(rows[i]["high"], wanted.high);
    }
    EXPECT_TRUE(rows[4]["miss"].is_null());  // nothing was tried
    EXPECT_EQ(rows[4]["low"], 0.0);
    EXPECT_EQ(rows[4]["high"], 1.0);
}

TEST(CountsInterval, IsThatOfSimulate) {
    const auto simulated = nlohmann::json::parse(run_captured(words("simulate --trials 3000 --json")).out)[0];
    const auto row = nlohmann::json::parse(
        run_captured({"interval", "--misses", simulated["misses"].dump(), "--trials", "3000", "--json"}).out)[0];
    for (const char* name : {"miss", "low", "high"}) {
        EXPECT_EQ(row[name], simulated[name]);
    }
}

TEST(CountsInterval, RefusesWhatIsNoCount) {
    const std::vector<std::pair<std::string, std::string>> refused = {
        {"--misses 3", "trials: give the counts"},
        {"--trials 3", "misses: give the counts"},
        {"--misses 3 --trials 2", "misses = 3: must be at most the 2 trials; nearest valid choice: 2"},
        {"--misses 3,4 --trials 5", "misses, trials: are lists of 2 and 1"},
        {"--misses -1 --trials 5", "nearest valid: 0"},
        {"--misses nan --trials 5", "must be a whole number"},
        {"--misses 1 --trials 5 --confidence nan", "nearest valid: 0.5"},
    };
    for (const auto& [flags, message] : refused) {
        const Captured run = run_captured(words("interval " + flags));
        EXPECT_EQ(run.code, 2) << flags;
        EXPECT_NE(run.err.find(message), std::string::npos) << flags << "\n" << run.err;
    }
}

}  // namespace
}  // namespace mobalab::experiments
