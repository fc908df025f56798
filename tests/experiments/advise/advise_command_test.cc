// mobalab advise as a user runs it.
#include <gmock/gmock.h>

#include "experiments/base/build_info.h"
#include "experiments/results/csv_text.h"
#include "tests/experiments/advise/synthetic_measure.h"
#include "tests/experiments/captured.h"

namespace mobalab::experiments {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* times =
    "# device: H100 of a test\n# commit: abc\n# command: none\n"
    "head_dim,batch,heads,seq_len,block_size,topk,scorer,keep_first,route_ms,forward_ms\n"
    "128,2,16,4096,64,16,mean,0,0.1,1.5\n"
    "128,2,16,4096,64,16,mean,1,0.1,1.6\n"
    "128,2,16,4096,32,32,mean,1,0.3,2.5\n"
    "128,2,16,8192,64,16,mean,0,0.2,3.2\n";

class AdviseCommand : public testing::Test {
protected:
    AdviseCommand() {
        std::vector<MeasureRow> rows;
        add_setting(rows, mean_setting(64, 16), {0.60, 0.40});
        add_setting(rows, mean_setting(64, 16, true), {0.85, 0.55});
        add_setting(rows, mean_setting(32, 32, true), {0.95, 0.75});
        add_setting(rows, mean_setting(32, 16, true), {0.75, 0.45});
        write("m.h5", {measure_table_of(rows)});
        spill(folder_ / "times.csv", times);
    }

    void write(const std::string& name, std::vector<Table> tables) const {
        Results results = new_results("measure");
        results.tables = std::move(tables);
        ResultsOutput(folder_ / name, false).commit(results);
    }

    Captured run(const std::string& line) const {
        std::vector<std::string> args = words("advise " + line);
        for (std::string& arg : args) {
            arg = arg.ends_with(".h5") || arg.ends_with(".csv") ? folder_ / arg : arg;
        }
        return run_captured(args);
    }

    TemporaryFolder folder_;
};

TEST_F(AdviseCommand, SaysWhichSettingInOneSentence) {
    const Captured keys = run("m.h5 --budget-keys 1024");
    EXPECT_EQ(keys.code, 0) << keys.err;
    EXPECT_THAT(keys.out,
                StartsWith("Take scorer mean with block 0 kept, B 32, k 32: it keeps 0.850 (0.840 to 0.860) of "
                           "the attention to past blocks on average over 2 heads and 0.750 on the worst, for "
                           "1024 keys a query.\n"));
    const Captured recall = run("m.h5 --recall 0.58");
    EXPECT_THAT(recall.out, StartsWith("Take scorer mean with block 0 kept, B 32, k 16: it keeps 0.600"));
}

TEST_F(AdviseCommand, ABudgetOfTimeIsThatOfTheKernelTable) {
    const Captured narrow = run("m.h5 --budget-ms 1.55 --kernel-table times.csv");
    EXPECT_THAT(narrow.out, StartsWith("Take scorer mean, B 64, k 16:")) << narrow.err;
    EXPECT_THAT(narrow.out, HasSubstr("for 1024 keys a query and 1.5 ms."));
    EXPECT_THAT(narrow.out, HasSubstr("d 128, N 4096, bf16, on H100 of a test (commit abc); 1 of 4 settings are not"));
    EXPECT_THAT(run("m.h5 --budget-ms 2 --kernel-table times.csv").out,
                StartsWith("Take scorer mean with block 0 kept, B 64, k 16:"));
    EXPECT_THAT(run("m.h5 --budget-ms 3 --kernel-table times.csv").out,
                StartsWith("Take scorer mean with block 0 kept, B 32, k 32:"));
    // At twice the length there is one time, and the recall is still that of the trace.
    const Captured longer = run("m.h5 --budget-ms 4 --seq-len 8192 --kernel-table times.csv");
    EXPECT_THAT(longer.out, HasSubstr("for 1024 keys a query and 3.2 ms."));
    EXPECT_THAT(longer.err, HasSubstr("warning: recall and hits are those measured at N 4096, not at N 8192"));
}

TEST_F(AdviseCommand, TimesThatTheTableDoesNotHoldAreRefused) {
    std::vector<MeasureRow> rows;
    add_setting(rows, mean_setting(64, 5), {0.5});
    write("other.h5", {measure_table_of(rows)});
    const Captured none = run("other.h5 --budget-ms 2 --kernel-table times.csv");
    EXPECT_EQ(none.code, 2);
    EXPECT_THAT(none.err, HasSubstr("(d 128; N 4096 to 8192) holds none of the settings at d 128, N 4096"));
}

TEST_F(AdviseCommand, ExitCodesTellNoFromBadInput) {
    const Captured none = run("m.h5 --recall 0.99");
    EXPECT_EQ(none.code, 1);
    EXPECT_THAT(none.out,
                StartsWith("No setting with recall of at least 0.99 at the low end of its interval; nearest is "
                           "mean with block 0 kept, B 32, k 32"));
    EXPECT_EQ(run("m.h5 --budget-keys 10").code, 1);
    for (const char* bad :
         {"m.h5", "m.h5 --budget-keys 1024 --recall 0.5", "m.h5 --budget-keys 0", "m.h5 --budget-ms 0",
          "m.h5 --budget-ms nan", "m.h5 --recall 1.5", "m.h5 --budget-keys 1024 --trace x",
          "m.h5 --budget-keys 1024 --scorer oracle2", "m.h5 --budget-keys 1024 --head-dim 64",
          "m.h5 --budget-keys 1024 --seq-len 64K", "m.h5 --budget-keys 1024 --dense-below 2",
          "missing.h5 --budget-keys 1024", "times.csv --budget-keys 1024",
          "m.h5 --budget-keys 1024 --kernel-table m.h5", "--budget-keys 1024", "--budget-keys 1024 --head-dim 64",
          "m.h5 --budget-keys 1024 --json --csv", "--budget-keys 1024 --head-dim 64 --seq-len 8K --dense-below 0.5",
          "--budget-keys 1024 --head-dim 64 --seq-len 8K --profile 0.5 --mu-signal 0.5"}) {
        const Captured refused = run(bad);
        EXPECT_EQ(refused.code, 2) << bad;
        EXPECT_THAT(refused.err, StartsWith("mobalab advise: error: ")) << bad;
        EXPECT_EQ(refused.out, "") << bad;
    }
}

TEST_F(AdviseCommand, AFileWithoutMeasurementsIsRefused) {
    Table other = measure_table_of({MeasureRow{.setting = mean_setting(64, 8)}});
    other.name = "theory";
    write("theory.h5", {other});
    const Captured refused = run("theory.h5 --budget-keys 1024");
    EXPECT_EQ(refused.code, 2);
    EXPECT_THAT(refused.err, HasSubstr("holds no table measure"));
}

TEST_F(AdviseCommand, ResultsFileHoldsTablesAndSentence) {
    ASSERT_EQ(run("m.h5 --budget-keys 1024 --out advise.h5").code, 0);
    const Results results = read_results(folder_ / "advise.h5");
    EXPECT_EQ(results.subcommand, "advise");
    const Table& table = results.table("advise");
    EXPECT_EQ(table.rows(), 4U);
    EXPECT_THAT(std::get<std::string>(table.attributes.at("recommendation")), StartsWith("Take scorer mean"));
    EXPECT_EQ(results.table("advise_heads").rows(), 2U);
    EXPECT_EQ(results.table("advise_frontier_heads").rows(), 4U);
    const Captured csv = run("m.h5 --budget-keys 1024 --csv");
    EXPECT_EQ(csv.out, csv_table(table));
    EXPECT_THAT(csv.err, HasSubstr("mobalab advise: Take scorer mean with block 0 kept, B 32, k 32"));
}

TEST_F(AdviseCommand, ATraceIsMeasuredAsMeasureDoes) {
    const std::string trace = build_info().source_dir + "/experiments/traces/smollm2_small.safetensors";
    const std::string settings = " --block-size 16,64 --topk 4,8 --scorer mean,window --keep-first both --rows 128";
    const Captured direct = run(trace + settings + " --budget-keys 256 --csv --out direct.h5");
    EXPECT_EQ(direct.code, 0) << direct.err;
    EXPECT_THAT(direct.err, HasSubstr("Take scorer mean with block 0 kept, B 16, k 8"));
    const std::vector<std::string> measure = words("measure " + trace + settings + " --out " + (folder_ / "two.h5"));
    ASSERT_EQ(run_captured(measure).code, 0);
    EXPECT_EQ(run("two.h5 --budget-keys 256 --csv").out, direct.out);
    const auto measured = [&](const char* name) { return csv_table(read_results(folder_ / name).table("measure")); };
    EXPECT_EQ(measured("direct.h5"), measured("two.h5"));
    const Captured both = run(trace + " m.h5 --budget-keys 256");
    EXPECT_EQ(both.code, 2);
    EXPECT_THAT(both.err, HasSubstr("is a results file, which is read alone"));
    EXPECT_THAT(run("m.h5 --budget-keys 256 --rows 64").err, HasSubstr("is about traces, and"));
    EXPECT_THAT(run(trace + " --budget-keys 256 --head-dim 64").err, HasSubstr("is a flag of theory"));
}

TEST_F(AdviseCommand, WithoutAFileTheoryAnswersAndSaysSo) {
    const Captured theory = run("--head-dim 64 --seq-len 8K --profile 0.6,0.3,0.2 --budget-keys 1024");
    EXPECT_EQ(theory.code, 0) << theory.err;
    EXPECT_THAT(theory.out, StartsWith("Take scorer mean, B 16, k 64: it keeps the needle's block with probability"));
    EXPECT_THAT(theory.out, HasSubstr("(exact)"));
    EXPECT_THAT(theory.out, HasSubstr("theory: sphere keys, independent"));
    EXPECT_THAT(theory.out, HasSubstr("- independent keys and one needle: on heads of a real model"));
    EXPECT_EQ(run("--head-dim 64 --seq-len 8K --recall 0.99999999 --topk 2 --block-size 64").code, 1);
}

TEST_F(AdviseCommand, AProfileMayRepeatAnAffinity) {
    const std::string line = "--head-dim 64 --seq-len 4K --budget-keys 512 --csv ";
    const Captured profile = run(line + "--profile 0.6,0.3,0.3,0.3");
    const Captured cluster = run(line + "--cluster-size 4 --mu-signal 0.6 --mu-cluster 0.3");
    ASSERT_EQ(profile.code, 0) << profile.err;
    EXPECT_EQ(profile.out, cluster.out);
}

}  // namespace
}  // namespace mobalab::experiments
