#include "experiments/advise/kernel_times.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "experiments/base/regular_file.h"

namespace mobalab::experiments {
namespace {

using testing::HasSubstr;

constexpr const char* notes = "# device: a device\n# commit: abc\n# command: a command\n";
constexpr const char* header = "head_dim,batch,heads,seq_len,block_size,topk,scorer,keep_first,route_ms,forward_ms\n";

Setting mean_setting(std::int64_t block_size, std::int64_t topk, bool keep_first = false) {
    return {.scorer = "mean", .block_size = block_size, .topk = topk, .sub_blocks = 1, .keep_first = keep_first};
}

KernelTimes times_of(const std::string& rows) {
    return KernelTimes::parse(notes + (header + rows), "t.csv");
}

std::string refusal(const std::string& text) {
    try {
        KernelTimes::parse(text, "t.csv");
    } catch (const FileError& error) {
        return error.what();
    }
    return "accepted";
}

/// Milliseconds that grow as attention and routing do.
double law(double n) {
    return 2e-4 * n + 3e-9 * n * n;
}

TEST(KernelTimes, BetweenLengthsTimesThatGrowAsTheKernelsDoAreExact) {
    std::string rows;
    for (const int n : {4096, 16384, 131072}) {
        rows += fmt::format("128,2,16,{},64,8,mean,0,0.001,{}\n", n, law(n));
    }
    const KernelTimes times = times_of(rows);
    for (const std::int64_t n : {4096, 5000, 16384, 70000, 131072}) {
        const auto found = times.milliseconds(mean_setting(64, 8), 128, n);
        ASSERT_TRUE(found.has_value()) << n;
        EXPECT_NEAR(*found, law(static_cast<double>(n)), 1e-9 * law(static_cast<double>(n)));
    }
}

TEST(KernelTimes, NothingIsSaidOutsideTheTable) {
    const KernelTimes times = times_of("128,2,16,4096,64,8,mean,0,1,2\n128,2,16,8192,64,8,mean,0,2,4\n");
    EXPECT_FALSE(times.milliseconds(mean_setting(64, 8), 128, 4095));
    EXPECT_FALSE(times.milliseconds(mean_setting(64, 8), 128, 8193));
    EXPECT_FALSE(times.milliseconds(mean_setting(64, 8), 64, 4096));
    EXPECT_FALSE(times.milliseconds(mean_setting(64, 9), 128, 4096));
    EXPECT_FALSE(times.milliseconds(mean_setting(32, 8), 128, 4096));
    EXPECT_FALSE(times.milliseconds(mean_setting(64, 8, true), 128, 4096));
    EXPECT_EQ(times.milliseconds(mean_setting(64, 8), 128, 4096), 2.0);
    EXPECT_EQ(times.range(), "d 128; N 4096 to 8192");
    EXPECT_EQ(times.shape(128), "2 sequences of 16 heads");
    EXPECT_EQ(times.shape(64), "");
}

TEST(KernelTimes, TheNotesSayWhatWasMeasured) {
    const KernelTimes times = times_of("128,2,16,4096,64,8,mean,0,1,2\n");
    EXPECT_EQ(times.device(), "a device");
    EXPECT_EQ(times.commit(), "abc");
    EXPECT_EQ(times.command(), "a command");
    EXPECT_THAT(refusal(std::string("# device: x\n# command: y\n") + header + "128,2,16,4096,64,8,mean,0,1,2\n"),
                HasSubstr("does not say its commit"));
}

TEST(KernelTimes, DamagedTablesAreRefusedWithTheirLine) {
    const auto of_rows = [](const std::string& rows) { return refusal(notes + (header + rows)); };
    const std::string row = "128,2,16,4096,64,8,mean,0,1,2\n";
    EXPECT_EQ(of_rows(row), "accepted");
    EXPECT_THAT(of_rows(""), HasSubstr("holds no times"));
    EXPECT_THAT(of_rows(row + row), HasSubstr("t.csv, line 6: the same setting"));
    EXPECT_THAT(of_rows("128,2,16,4096,64,8,mean,0,2,1\n"), HasSubstr("line 5: forward_ms = 1, route_ms = 2"));
    EXPECT_THAT(of_rows("128,2,16,4096,64,8,mean,0,nan,1\n"), HasSubstr("line 5: route_ms = nan"));
    EXPECT_THAT(of_rows("128,2,16,4096,64,8,mean,0,0,0\n"), HasSubstr("takes time"));
    EXPECT_THAT(of_rows("128,2,16,4096,64,8,mean,2,1,2\n"), HasSubstr("keep_first = 2"));
    EXPECT_THAT(of_rows("128,2,16,4096,64,8,meen,0,1,2\n"), HasSubstr("line 5: scorer = 'meen'"));
    EXPECT_THAT(of_rows(row + "128,2,32,8192,64,8,mean,0,1,2\n"), HasSubstr("one shape a width"));
    EXPECT_THAT(of_rows("128,2,16,4096,64,8,mean,0,1\n"), HasSubstr("line 5: has 9 cells"));
    EXPECT_THAT(refusal(std::string(notes) + "head_dim,batch\n128,2\n"), HasSubstr("has no column heads"));
    EXPECT_THAT(refusal(""), HasSubstr("is empty"));
}

TEST(KernelTimes, TheShippedTableIsOfAnH100) {
    const KernelTimes& times = KernelTimes::shipped();
    EXPECT_THAT(times.device(), HasSubstr("H100"));
    EXPECT_GE(times.rows(), 10U);
    const auto found = times.milliseconds(mean_setting(128, 8), 128, 65536);
    ASSERT_TRUE(found.has_value());
    EXPECT_GT(*found, 1.0);
    EXPECT_LT(*found, 100.0);
}

TEST(KernelTimes, CandidatesGetTheTimesOfTheirSettings) {
    Evidence evidence{.seq_len = 4096, .head_dim = 128, .measured = false, .origin = ""};
    for (const Setting& setting : {mean_setting(64, 8), mean_setting(64, 16)}) {
        evidence.candidates.push_back({.setting = setting, .source = "exact"});
    }
    evidence.candidates.push_back({.setting = {.scorer = "window", .block_size = 64, .topk = 8}, .source = "measured"});
    add_milliseconds(evidence, times_of("128,2,16,4096,64,8,mean,0,1,2\n"), 4096);
    EXPECT_EQ(evidence.candidates[0].milliseconds, 2.0);
    EXPECT_TRUE(std::isnan(evidence.candidates[1].milliseconds));
    EXPECT_TRUE(std::isnan(evidence.candidates[2].milliseconds));
    ASSERT_EQ(evidence.notes.size(), 1U);
    EXPECT_THAT(evidence.notes[0], HasSubstr("1 of 2 settings are not in that table"));
}

}  // namespace
}  // namespace mobalab::experiments
