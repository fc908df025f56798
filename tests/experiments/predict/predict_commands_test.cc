// `measure --predict` and `validate` with traces: predictions hold where their assumptions do, wrong routers are
// caught.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "analysis/routing_point.h"
#include "experiments/base/regular_file.h"
#include "experiments/commands/subcommands.h"
#include "experiments/commands/validate_traces.h"
#include "experiments/predict/prediction.h"
#include "tests/experiments/captured.h"
#include "tests/experiments/predict/autoregressive_head.h"

namespace mobalab::experiments {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class OnATrace : public testing::Test {
protected:
    OnATrace() {
        spill(trace_, trace_bytes({autoregressive_head(1), autoregressive_head(2)}));
        spill(other_, trace_bytes({autoregressive_head(3), autoregressive_head(4)}));
    }
    Captured run(const std::string& line) const {
        std::vector<std::string> args = words(line);
        args.insert(args.begin() + 1, trace_);
        return run_captured(args);
    }
    TemporaryFolder folder_;
    std::string trace_ = folder_ / "trace.safetensors";
    std::string other_ = folder_ / "other.safetensors";
};

using Predictions = OnATrace;
using ValidateTraces = OnATrace;

/// The grid of most tests: hits from 0.2 to 0.95.
const std::string grid = " --block-size 8,16,64 --topk 3,8";

TEST_F(Predictions, OfOnePassHoldWhereItsAssumptionsDo) {
    // Fixed seeds, so nothing is left to chance; what differs is the rows (512 measured, 512 others predict) and what
    // the law leaves out.
    for (const std::string& source : {std::string(" --rows 512"), " --statistics " + other_}) {
        const Captured run = this->run("measure --predict one-pass --json" + grid + source);
        ASSERT_EQ(run.code, exit_ok) << run.err;
        const auto rows = nlohmann::json::parse(run.out);
        ASSERT_EQ(rows.size(), 12U);
        double hit_errors = 0.0;
        double mass_errors = 0.0;
        for (const auto& row : rows) {
            const double hit = std::abs(row["predicted_needle_hit"].get<double>() - row["needle_hit"].get<double>());
            const double mass = std::abs(row["predicted_mass_recall"].get<double>() - row["mass_recall"].get<double>());
            EXPECT_LT(hit, 0.12) << row.dump();
            EXPECT_LT(mass, 0.12) << row.dump();
            hit_errors += hit / 12;
            mass_errors += mass / 12;
        }
        EXPECT_LT(hit_errors, 0.05) << source;
        EXPECT_LT(mass_errors, 0.05) << source;
    }
}

TEST_F(Predictions, OfBlockScoresToo) {
    for (const std::string law : {"standardised", "empirical"}) {
        const Captured run = this->run("measure --predict " + law + " --rows 512 --json" + grid);
        ASSERT_EQ(run.code, exit_ok) << run.err;
        for (const auto& row : nlohmann::json::parse(run.out)) {
            EXPECT_NEAR(row["predicted_needle_hit"].get<double>(), row["needle_hit"].get<double>(), 0.08) << row.dump();
            EXPECT_NEAR(row["predicted_mass_recall"].get<double>(), row["mass_recall"].get<double>(), 0.08)
                << row.dump();
            EXPECT_EQ(row["prediction"], law + ", from other rows");
        }
    }
}

TEST_F(Predictions, SayNothingOfWhatTheyDoNotKnow) {
    const Captured run = this->run(
        "measure --predict standardised --json --block-size 16 --scorer mean,quest --keep-first both --rows 512 --head "
        "0");
    ASSERT_EQ(run.code, exit_ok) << run.err;
    int known = 0;
    for (const auto& row : nlohmann::json::parse(run.out)) {
        const bool plain = row["scorer"] == "mean" && row["keep_first"] == 0;
        EXPECT_EQ(row["predicted_needle_hit"].is_null(), !plain) << row.dump();
        known += plain ? 1 : 0;
    }
    EXPECT_EQ(known, 1);
    const Captured first =
        this->run("measure --predict one-pass --json --block-size 16 --keep-first on --rows 512 --head 0");
    const auto row = nlohmann::json::parse(first.out).at(0);
    EXPECT_NEAR(row["predicted_mass_recall"].get<double>(), row["mass_recall"].get<double>(), 0.06);
}

TEST_F(Predictions, WithoutOtherRowsComeFromTheMeasuredOnesAndSaySo) {
    const Captured run = this->run("measure --predict one-pass --json --head 1");
    EXPECT_EQ(nlohmann::json::parse(run.out).at(0)["prediction"], "one-pass, from the measured rows");
}

TEST_F(Predictions, OfLongerTextsHaveAnIntervalOrAreNotTold) {
    // The short text's 9 blocks of 128 are all kept with k = 10, which says nothing of 12 blocks.
    const std::string shorter = folder_ / "shorter.safetensors";
    spill(shorter, trace_bytes({autoregressive_head(7, 1200), autoregressive_head(8, 1200)}));
    const Captured run =
        this->run("measure --predict one-pass --json --block-size 8,16,32,128 --topk 10 --statistics " + shorter);
    ASSERT_EQ(run.code, exit_ok) << run.err;
    int told = 0;
    for (const auto& row : nlohmann::json::parse(run.out)) {
        EXPECT_EQ(row["prediction"], "one-pass, from a shorter text shorter.safetensors");
        for (const std::string name : {"needle_hit", "mass_recall"}) {
            const auto& predicted = row["predicted_" + name];
            EXPECT_EQ(predicted.is_null(), row["predicted_" + name + "_low"].is_null());
            EXPECT_TRUE(predicted.is_null() || row["block_size"] != 128) << row.dump();
            if (predicted.is_null()) continue;
            EXPECT_LE(row["predicted_" + name + "_low"].get<double>(), row[name].get<double>()) << row.dump();
            EXPECT_GE(row["predicted_" + name + "_high"].get<double>(), row[name].get<double>()) << row.dump();
            ++told;
        }
    }
    EXPECT_GE(told, 4);
}

TEST_F(Predictions, BadRequestsAreOneLine) {
    EXPECT_THAT(run("measure --predict two-pass").err, HasSubstr("must be one of one-pass, standardised, empirical"));
    EXPECT_THAT(run("measure --statistics " + other_).err, HasSubstr("nearest valid: --predict one-pass"));
    spill(folder_ / "one.safetensors", trace_bytes({autoregressive_head(5)}));
    const Captured other = run("measure --predict one-pass --statistics " + (folder_ / "one.safetensors"));
    EXPECT_EQ(other.code, exit_error);
    EXPECT_THAT(other.err, HasSubstr("a trace of the same model"));
}

TEST_F(ValidateTraces, TheKernelFindsWhatIsPredicted) {
    const Captured own = run("validate" + grid);
    EXPECT_EQ(own.code, exit_ok) << own.out << own.err;
    EXPECT_THAT(own.out, AllOf(HasSubstr("the kernel finds what is predicted"), HasSubstr("with probability 0.9")));
    const Captured other = run("validate --statistics " + other_ + grid);
    EXPECT_EQ(other.code, exit_ok) << other.out << other.err;
}

/// Routes at random and says it was the mean.
class RandomMeter : public HeadMeter {
public:
    std::string device() const override { return inner_->device(); }
    std::string processor() const override { return inner_->processor(); }
    std::int64_t rows_a_call() const override { return inner_->rows_a_call(); }
    std::string trouble(std::span<const RouteSetting>, kernels::DataType, std::int64_t) const override { return ""; }
    HeadOutcomes measure(const HeadTensors& head, std::span<const RouteSetting> settings, std::uint64_t seed) override {
        std::vector<RouteSetting> random(settings.begin(), settings.end());
        for (RouteSetting& setting : random) setting.score.router = "random";
        return inner_->measure(head, random, seed);
    }

private:
    std::unique_ptr<HeadMeter> inner_ = cpu_head_meter(1);
};

TEST_F(ValidateTraces, AWrongRouterIsFound) {
    RandomMeter meter;
    const Arguments arguments = parse_arguments(validate_command(), words(trace_ + grid));
    std::ostringstream out;
    std::ostringstream err;
    Terminal terminal{out, err};
    EXPECT_EQ(run_trace_validation(arguments, trace_validation_plan(arguments), meter, terminal), exit_disagree);
    EXPECT_THAT(out.str(), AllOf(HasSubstr("DISAGREEMENT"), HasSubstr("mean_needle_error"), HasSubstr("layer 2")));
}

TEST_F(ValidateTraces, AFinishedFileGivesTheSameVerdict) {
    const std::string out = folder_ / "validate.h5";
    const Captured once = run("validate --head 0 --out " + out);
    EXPECT_EQ(once.code, exit_ok) << once.err;
    const Captured again = run("validate --head 0 --resume --out " + out);
    EXPECT_EQ(again.code, exit_ok);
    EXPECT_THAT(again.err, HasSubstr("is complete"));
    EXPECT_EQ(once.out, again.out);
}

TEST_F(ValidateTraces, FlagsOfTheOtherModeAreRefused) {
    const Captured planted = run("validate --mu-signal 0.7");
    EXPECT_EQ(planted.code, exit_error);
    EXPECT_THAT(planted.err, HasSubstr("mu-signal = 0.7: is of planted needles, and traces are given"));
    const Captured traces = run_captured(words("validate --layer 3"));
    EXPECT_EQ(traces.code, exit_error);
    EXPECT_THAT(traces.err, HasSubstr("layer = 3: is of traces, and none is given"));
    EXPECT_THAT(run("validate --scorer quest").err, HasSubstr("predictions are of mean alone; nearest valid: mean"));
    EXPECT_EQ(run("validate --alpha nan").code, exit_error);
    const Captured all = run("validate --block-size 512 --topk 3 --rows 512");
    EXPECT_EQ(all.code, exit_error) << all.out;
    EXPECT_THAT(all.err, HasSubstr("the law says nothing"));
}

}  // namespace
}  // namespace mobalab::experiments
