// A run that was interrupted goes on with the heads that it has not written down.

#include <gtest/gtest.h>

#include "experiments/base/check.h"
#include "experiments/measure/measure_run.h"
#include "experiments/measure/measure_table.h"
#include "experiments/measure/measured_record.h"
#include "experiments/results/csv_text.h"
#include "tests/experiments/captured.h"
#include "tests/experiments/measure/synthetic_trace.h"

namespace mobalab::experiments {
namespace {

/// The meter of the CPU until it has measured so many heads.
class EndingMeter : public HeadMeter {
public:
    explicit EndingMeter(int heads) : heads_(heads) {}
    std::string device() const override { return meter_->device(); }
    std::string processor() const override { return meter_->processor(); }
    std::int64_t rows_a_call() const override { return meter_->rows_a_call(); }
    std::string trouble(std::span<const RouteSetting>, kernels::DataType, std::int64_t) const override { return ""; }
    HeadOutcomes measure(const HeadTensors& head, std::span<const RouteSetting> settings, std::uint64_t seed) override {
        if (heads_-- == 0) {
            throw KernelError("the end");
        }
        return meter_->measure(head, settings, seed);
    }
    int left() const { return heads_; }

private:
    std::unique_ptr<HeadMeter> meter_ = cpu_head_meter(1);
    int heads_;
};

TEST(MeasureResume, HeadsThatAreWrittenDownAreNotMeasuredAgain) {
    const TemporaryFolder folder;
    spill(folder / "trace.safetensors", safetensors_bytes(synthetic_trace(5, "fp32").file));
    MeasureRequest request;
    request.block_sizes = {64};
    request.topks = {1, 3};
    request.scorers = {"mean", "window"};
    request.keep_first = {false};
    const MeasurePlan plan = plan_measurement({folder / "trace.safetensors"}, request);
    const MeasureSettings settings;
    ASSERT_EQ(plan.units.size(), 2U);
    EndingMeter whole(100);
    const auto uninterrupted = run_measurement(plan, settings, whole, nullptr, [](double, const std::string&) {});

    Results results = new_results("measure");
    results.task = measure_task(plan, settings, "cpu");
    EndingMeter ending(1);
    {
        ResumableOutput output(folder / "a.h5", ResumableOutput::Mode::fresh, results);
        EXPECT_THROW(run_measurement(plan, settings, ending, &output, [](double, const std::string&) {}), KernelError);
    }
    ResumableOutput output(folder / "a.h5", ResumableOutput::Mode::resume, results);
    EXPECT_EQ(output.records().size(), 1U);
    EndingMeter rest(10);
    const auto continued = run_measurement(plan, settings, rest, &output, [](double, const std::string&) {});
    EXPECT_EQ(rest.left(), 9);
    ASSERT_EQ(continued.size(), uninterrupted.size());
    for (std::size_t i = 0; i < continued.size(); ++i) {
        EXPECT_EQ(record_of(continued[i]), record_of(uninterrupted[i]));
    }
    EXPECT_EQ(output.records().size(), 2U);
    const auto distances = [&](const std::vector<std::vector<MeasuredSetting>>& measured) {
        return measure_distance_table(measure_table(plan, measured, settings, "cpu"), plan, measured);
    };
    EXPECT_EQ(csv_table(distances(continued)), csv_table(distances(uninterrupted)));
    EXPECT_GT(distances(continued).rows(), 0U);
}

TEST(MeasureResume, AnotherTraceOrSettingIsAnotherRun) {
    const TemporaryFolder folder;
    const std::string path = folder / "trace.safetensors";
    const std::string out = " --out " + (folder / "a.h5");
    spill(path, safetensors_bytes(synthetic_trace(5, "fp32").file));
    const Captured first = run_captured(words("measure " + path + out));
    ASSERT_EQ(first.code, 0) << first.err;
    const Captured again = run_captured(words("measure " + path + out + " --resume"));
    EXPECT_EQ(again.code, 0);
    EXPECT_EQ(again.out, first.out);
    EXPECT_NE(again.err.find("is complete; nothing left to do"), std::string::npos);
    for (const char* other : {" --topk 7", " --rows 128", " --centroids fp32", " --confidence 0.9", " --head 0"}) {
        EXPECT_EQ(run_captured(words("measure " + path + out + " --resume" + other)).code, 2) << other;
    }
    const TestTrace same = synthetic_trace(5, "fp32").file;
    for (std::size_t i = 0; i < same.tensors.size(); ++i) {  // the last element of one of them, of the last head
        TestTrace other = same;
        other.tensors[i].bytes.replace(other.tensors[i].bytes.size() - 4, 4, element("fp32", 0.25F));
        ASSERT_NE(other.tensors[i].bytes, same.tensors[i].bytes) << same.tensors[i].name;
        spill(path, safetensors_bytes(other));
        const Captured changed = run_captured(words("measure " + path + out + " --resume"));
        EXPECT_EQ(changed.code, 2) << same.tensors[i].name;
        EXPECT_NE(changed.err.find("holds another run"), std::string::npos) << changed.err;
    }
    spill(path, safetensors_bytes(same));
    EXPECT_EQ(run_captured(words("measure " + path + out + " --resume")).code, 0);
}

TEST(MeasureResume, ARecordComesBackBitForBit) {
    std::vector<MeasuredSetting> settings(2);
    settings[0].counts = {1, 2, 3, 4, 5};
    settings[0].values.fill(1.0 / 3.0);
    settings[1].values.fill(std::numeric_limits<double>::quiet_NaN());
    settings[1].values[0] = std::numeric_limits<double>::infinity();
    settings[1].distances = {{std::int64_t{1} << 40U, 0}, {0, 7}, {3, 2}};
    const auto back = settings_of(record_of(settings), 2);
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(record_of(*back), record_of(settings));
    EXPECT_EQ((*back)[0].values, settings[0].values);
    EXPECT_TRUE((*back)[0].distances.empty());
    EXPECT_EQ((*back)[1].distances, settings[1].distances);
    EXPECT_FALSE(settings_of(record_of(settings), 1).has_value());
    EXPECT_FALSE(settings_of(record_of(settings), 3).has_value());
    EXPECT_FALSE(settings_of("1 2 x", 1).has_value());
    std::string record = record_of({settings[0]});
    ASSERT_EQ(record.substr(record.size() - 2), " 0");
    record.resize(record.size() - 2);  // as it was before records had distances
    EXPECT_FALSE(settings_of(record, 1).has_value());
    EXPECT_FALSE(settings_of(record + " 2 5 1 4", 1).has_value());
    EXPECT_FALSE(settings_of(record + " -1", 1).has_value());
    EXPECT_FALSE(settings_of(record + " 1000000000", 1).has_value());
    EXPECT_TRUE(settings_of(record + " 1 5 1", 1).has_value());
}

TEST(MeasureRows, StretchesAreWholeApartAndSpread) {
    const auto all = row_stretches(2560, 1536, 0, 1000);
    ASSERT_EQ(all.size(), 2U);
    EXPECT_EQ(all[1].first + all[1].count, 1536);
    EXPECT_EQ(row_stretches(5, 300, 290, 4096).size(), 1U);  // no fewer rows than wanted: all
    for (const std::int64_t wanted : {1, 128, 129, 700, 1400}) {
        std::int64_t rows = 0;
        std::int64_t end = 0;
        for (const RowStretch& stretch : row_stretches(2570, 1536, wanted, 4096)) {
            EXPECT_GE(stretch.first, end);
            EXPECT_TRUE(stretch.count == 1536 || (2570 + stretch.first) % 128 == 0);
            end = stretch.first + stretch.count;
            rows += stretch.count;
        }
        EXPECT_LE(end, 1536);
        EXPECT_GE(rows, wanted);
        EXPECT_TRUE(rows < wanted + 128 || rows == 1536) << wanted;
    }
}

TEST(MeasureRows, StretchesStandAtEveryPlaceOfLargerBlocks) {
    for (const std::int64_t wanted : {1024, 2048}) {
        std::vector<int> places(4, 0);  // of blocks of 512
        const auto stretches = row_stretches(4096, 4096, wanted, 4096);
        for (const RowStretch& stretch : stretches) ++places[static_cast<std::size_t>(stretch.first / 128 % 4)];
        for (const int count : places) EXPECT_GE(8 * count, static_cast<int>(stretches.size())) << wanted;
        EXPECT_NEAR(places[0] + places[2], places[1] + places[3], static_cast<double>(stretches.size()) / 4.0)
            << wanted;
    }
}

}  // namespace
}  // namespace mobalab::experiments
