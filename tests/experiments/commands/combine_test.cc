#include <gtest/gtest.h>

#include "analysis/binomial_interval.h"
#include "experiments/results/results_file.h"
#include "tests/experiments/captured.h"

namespace mobalab::experiments {
namespace {

class Combine : public testing::Test {
protected:
    /// Writes a file of simulate; the default has two points that are missed now and then.
    std::string made(const std::string& name, const std::string& flags) {
        const Captured run = run_captured(words("simulate --force --out " + (folder_ / name) + " " + flags));
        EXPECT_EQ(run.code, 0) << run.err;
        return folder_ / name;
    }
    std::string seeded(const std::string& seed, const std::string& more = "--trials 2000") {
        return made(seed + ".h5", point + " --seed " + seed + " " + more);
    }

    Captured combined(const std::vector<std::string>& paths, const std::string& name, const std::string& flags = "") {
        std::vector<std::string> args = {"combine"};
        args.insert(args.end(), paths.begin(), paths.end());
        for (const std::string& word : words("--out " + (folder_ / name) + " " + flags)) {
            args.push_back(word);
        }
        return run_captured(args);
    }

    /// The one line of the refusal, which must leave no file.
    std::string refusal(const std::vector<std::string>& paths) {
        const Captured run = combined(paths, "refused.h5");
        EXPECT_EQ(run.code, 2);
        EXPECT_FALSE(std::filesystem::exists(folder_ / "refused.h5"));
        return run.err;
    }

    const std::string point = "--model gaussian --candidates 30 --block-size 64 --head-dim 32,64";
    TemporaryFolder folder_;
};

TEST_F(Combine, CountsAreAddedAndIntervalsMadeOfTheSums) {
    const std::vector<std::string> paths = {seeded("1"), seeded("2", "--trials 3000"), seeded("3", "--trials 700")};
    ASSERT_EQ(combined(paths, "all.h5").code, 0);
    const Results all = read_results(folder_ / "all.h5");
    const Table& table = all.table("simulate");
    ASSERT_EQ(table.rows(), 2U);
    EXPECT_EQ(all.seed, std::nullopt);
    EXPECT_FALSE(table.has("seed"));
    for (std::size_t row = 0; row < 2; ++row) {
        std::int64_t misses = 0;
        for (const std::string& path : paths) {
            misses += read_results(path).table("simulate").integers("misses")[row];
        }
        EXPECT_GT(misses, 0);
        EXPECT_EQ(table.integers("trials")[row], 5700);
        EXPECT_EQ(table.integers("misses")[row], misses);
        const analysis::Interval interval = analysis::clopper_pearson(static_cast<double>(misses), 5700.0, 0.05);
        EXPECT_NEAR(table.reals("miss")[row], interval.value, 1e-15);
        EXPECT_NEAR(table.reals("low")[row], interval.low, 1e-12);
        EXPECT_NEAR(table.reals("high")[row], interval.high, 1e-12);
        EXPECT_EQ(table.texts("stop_reason")[row], "trials");
    }
    const Table& streams = all.table("streams");
    EXPECT_EQ(streams.integers("seed"), (std::vector<std::int64_t>{1, 1, 2, 2, 3, 3}));
    EXPECT_EQ(streams.integers("point"), (std::vector<std::int64_t>{0, 1, 0, 1, 0, 1}));
    EXPECT_EQ(streams.integers("trials"), (std::vector<std::int64_t>{2000, 2000, 3000, 3000, 700, 700}));

    ASSERT_EQ(combined(paths, "wide.h5", "--confidence 0.99").code, 0);
    EXPECT_LT(read_results(folder_ / "wide.h5").table("simulate").reals("low")[0], table.reals("low")[0]);
}

TEST_F(Combine, EveryScorerIsAQuestionOfItsOwn) {
    const std::string points = "--candidates 30 --block-size 64 --head-dim 32,64 --scorer mean,quest --trials 500";
    const std::vector<std::string> paths = {made("a.h5", points + " --seed 1"), made("b.h5", points + " --seed 2")};
    const Captured run = combined(paths, "both.h5");
    ASSERT_EQ(run.code, 0) << run.err;
    const Results both = read_results(folder_ / "both.h5");
    const Table& table = both.table("simulate");
    EXPECT_EQ(table.texts("scorer"), (std::vector<std::string>{"mean", "quest", "mean", "quest"}));
    EXPECT_EQ(table.integers("trials"), (std::vector<std::int64_t>{1000, 1000, 1000, 1000}));
}

TEST_F(Combine, ACombinationIsCombinedFurther) {
    const std::vector<std::string> paths = {seeded("1"), seeded("2"), seeded("3")};
    ASSERT_EQ(combined({paths[0], paths[1]}, "two.h5").code, 0);
    ASSERT_EQ(combined({folder_ / "two.h5", paths[2]}, "three.h5").code, 0);
    ASSERT_EQ(combined(paths, "at_once.h5").code, 0);
    const Results later = read_results(folder_ / "three.h5");
    const Results at_once = read_results(folder_ / "at_once.h5");
    EXPECT_EQ(later.tables, at_once.tables);
    EXPECT_EQ(later.task, at_once.task);
}

TEST_F(Combine, NoTrialIsCountedTwice) {
    const std::string one = seeded("1");
    const std::string two = seeded("2");
    const std::string longer = made("longer.h5", point + " --seed 1 --trials 4000");
    const std::string twice = "the trials of seed 1 are in ";
    EXPECT_NE(refusal({one, one}).find(twice + one + " already"), std::string::npos);
    EXPECT_NE(refusal({one, longer}).find(twice), std::string::npos);
    ASSERT_EQ(combined({one, two}, "both.h5").code, 0);
    EXPECT_NE(refusal({folder_ / "both.h5", one}).find(twice), std::string::npos);
    EXPECT_NE(refusal({longer, folder_ / "both.h5"}).find(twice), std::string::npos);
}

TEST_F(Combine, RowsAreFoundByTheirPoint) {
    const std::string one = seeded("1");
    const std::string other_order =
        made("b.h5", "--model gaussian --candidates 30 --block-size 64 --head-dim 64,32 --seed 2 --trials 2000");
    const std::string same_order = seeded("2");
    ASSERT_EQ(combined({one, other_order}, "x.h5").code, 0);
    ASSERT_EQ(combined({one, same_order}, "y.h5").code, 0);
    EXPECT_EQ(read_results(folder_ / "x.h5").table("simulate"), read_results(folder_ / "y.h5").table("simulate"));
}

TEST_F(Combine, UnequalTasksAreRefused) {
    const std::string one = seeded("1");
    const std::string plain = "--candidates 30 --block-size 64 --head-dim 32,64 --seed 2 --trials 2000";
    EXPECT_NE(
        refusal({one, made("m.h5", "--model sphere " + plain)}).find("m.h5: the point model = sphere, head_dim = "),
        std::string::npos);
    EXPECT_NE(refusal({one, made("u.h5", "--model gaussian --mu-signal 0.7 " + plain)}).find(" is not in " + one),
              std::string::npos);
    EXPECT_NE(refusal({one, made("f.h5", "--model gaussian --candidates 30 --head-dim 32 --seed 2")})
                  .find("f.h5: holds 1 points where " + one + " holds 2"),
              std::string::npos);
    EXPECT_NE(refusal({one, made("s.h5", "--model gaussian --max-misses 100 " + plain)})
                  .find("was stopped by other rules on counts (max-misses 100, target-relative-error 0) than " + one),
              std::string::npos);
    EXPECT_NE(refusal({made("t.h5", "--candidates 30 --trials 200 --seed 1"),
                       made("v.h5", "--candidates 30 --trials 200 --seed 2 --method vector")})
                  .find("v.h5: method = vector where "),
              std::string::npos);
}

TEST_F(Combine, OnlyCountsAreAdded) {
    const std::string one = seeded("1");
    const std::string few = "--seq-len 1K --topk 2";
    for (const std::string line : {"theory", "route --probes 128", "validate --probes 128 --trials 100"}) {
        ASSERT_EQ(run_captured(words(line + " --force --out " + (folder_ / "r.h5") + " " + few)).code, 0);
        EXPECT_NE(refusal({one, folder_ / "r.h5"}).find("only files of simulate hold counts that can be added"),
                  std::string::npos)
            << line;
    }
    const std::string rare = "--head-dim 512 --block-size 16 --method conditional --trials 8192 ";
    EXPECT_NE(refusal({made("c.h5", rare + "--seed 1"), made("d.h5", rare + "--seed 2")})
                  .find("c.h5: holds a mean of weights (method conditional) at model = sphere"),
              std::string::npos);
    spill(folder_ / "foreign.h5", "not HDF5");
    EXPECT_NE(refusal({one, folder_ / "foreign.h5"}).find("foreign.h5: is not a readable"), std::string::npos);
    EXPECT_NE(refusal({one}).find("files: name at least two results files of simulate, here one is given"),
              std::string::npos);
    EXPECT_NE(run_captured({"combine", one, one}).err.find("out: name the results file to write"), std::string::npos);
}

TEST_F(Combine, ExactPointsMustBeEqual) {
    const std::string exact = "--model gaussian --candidates 30 --method exact ";
    ASSERT_EQ(combined({made("a.h5", exact + "--seed 1"), made("b.h5", exact + "--seed 2")}, "e.h5").code, 0);
    const Results combination = read_results(folder_ / "e.h5");
    EXPECT_EQ(combination.table("simulate").reals("miss"),
              read_results(folder_ / "a.h5").table("simulate").reals("miss"));
    EXPECT_EQ(combination.table("streams").rows(), 0U);
}

}  // namespace
}  // namespace mobalab::experiments
