#include "experiments/results/results_file.h"

#include <fmt/chrono.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>

#include "experiments/results/atomic_file.h"
#include "experiments/results/seal.h"
#include "tests/experiments/captured.h"

namespace mobalab::experiments {
namespace {

Results sample() {
    Results results = new_results("validate");
    results.utc_time = "2026-01-02T03:04:05Z";  // two samples are equal whatever the second
    results.task = task_id("a task");
    results.command = "mobalab validate --out 'α β.h5'";
    results.settings = "trials=1000";
    results.seed = 9'223'372'036'854'775'807U;
    results.device = "a device";
    results.tables = {
        {.name = "validate",
         .columns = {{"model", "law", "", std::vector<std::string>{"sphere", "", "größer"}},
                     {"trials", "trials", "1",
                      std::vector<std::int64_t>{0, std::numeric_limits<std::int64_t>::min(),
                                                std::numeric_limits<std::int64_t>::max()},
                      "", 0},
                     {"miss", "miss", "1", std::vector<double>{0.1 + 0.2, -HUGE_VAL, 5e-324}, "misses / trials"}},
         .attributes = {{"interval", std::string("Clopper-Pearson")}, {"alpha", 1e-6}, {"sets", std::int64_t{32}}}},
        {.name = "empty",
         .dimension = "row",
         .columns = {{"text", "no text", "", std::vector<std::string>{}},
                     {"number", "no number", "s", std::vector<double>{}}}},
    };
    return results;
}

std::string refusal(const std::vector<char>& bytes) {
    try {
        decode_results(bytes, "x.h5");
    } catch (const FileError& error) {
        return error.what();
    }
    return "accepted";
}

std::vector<char> replaced(std::vector<char> bytes, const std::string& from, const std::string& to) {
    const auto at = std::search(bytes.begin(), bytes.end(), from.begin(), from.end());
    if (at == bytes.end() || from.size() != to.size()) {
        throw std::logic_error("nothing to replace");
    }
    std::copy(to.begin(), to.end(), at);
    return bytes;
}

TEST(ResultsFile, RoundTrip) {
    const Results results = sample();
    EXPECT_EQ(decode_results(encode_results(results), "x.h5"), results);
}

TEST(ResultsFile, NotANumberSurvives) {
    Results results = sample();
    results.tables[0].columns[2].values = std::vector<double>{NAN, 1.0, 2.0};
    const Results read = decode_results(encode_results(results), "x.h5");
    EXPECT_TRUE(std::isnan(read.table("validate").reals("miss")[0]));
}

TEST(ResultsFile, ThousandsOfRows) {
    Results results = sample();
    std::vector<std::int64_t> numbers(20000);
    std::vector<std::string> names;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        numbers[i] = static_cast<std::int64_t>(i * i);
        names.push_back(std::to_string(i));
    }
    results.tables = {{.name = "big", .columns = {{"n", "n", "1", numbers}, {"name", "name", "", names}}}};
    EXPECT_EQ(decode_results(encode_results(results), "x.h5"), results);
}

TEST(ResultsFile, TheSameResultsAreTheSameBytes) {
    EXPECT_EQ(encode_results(sample()), encode_results(sample()));
    Results other = sample();
    std::get<std::vector<double>>(other.tables[0].columns[2].values)[0] = std::nextafter(0.1 + 0.2, 1.0);
    EXPECT_NE(encode_results(other), encode_results(sample()));
}

TEST(ResultsFile, TablesAreChecked) {
    Results uneven = sample();
    uneven.tables[0].columns[0].values = std::vector<std::string>{"one"};
    EXPECT_THROW(encode_results(uneven), std::invalid_argument);
    Results twice = sample();
    twice.tables[0].columns[0].name = "miss";
    EXPECT_THROW(encode_results(twice), std::invalid_argument);
    Results like_dimension = sample();
    like_dimension.tables[0].columns[0].name = "point";
    EXPECT_THROW(encode_results(like_dimension), std::invalid_argument);
}

TEST(ResultsFile, CutAnywhereItIsRefused) {
    const std::vector<char> whole = encode_results(sample());
    ASSERT_EQ(refusal(whole), "accepted");
    for (std::size_t size = 0; size < whole.size(); size += size < 256 ? 1 : 61) {
        const std::string text = refusal({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
        ASSERT_EQ(text.find("x.h5: is not a readable mobalab results file (foreign, truncated or damaged)"), 0U)
            << "cut at byte " << size << ": " << text;
        ASSERT_EQ(text.find('\n'), std::string::npos);
    }
}

TEST(ResultsFile, ForeignFilesAreRefused) {
    const std::string text = "a text file, longer than the signature of HDF5";
    EXPECT_NE(refusal({text.begin(), text.end()}), "accepted");
    EXPECT_EQ(refusal(sealed(replaced(unsealed(encode_results(sample())), "mobalab results", "another results"))),
              "x.h5: is an HDF5 file but not a mobalab results file");
}

TEST(ResultsFile, ItsKindIsKnownByTheSeal) {
    const TemporaryFolder folder;
    const std::vector<char> bytes = encode_results(sample());
    spill(folder / "whole.h5", {bytes.begin(), bytes.end()});
    spill(folder / "cut.h5", {bytes.begin(), bytes.end() - 1});
    spill(folder / "empty.h5", "");
    EXPECT_TRUE(is_results_file(folder / "whole.h5"));
    EXPECT_FALSE(is_results_file(folder / "cut.h5"));
    EXPECT_FALSE(is_results_file(folder / "empty.h5"));
    EXPECT_THROW(is_results_file(folder / "missing.h5"), FileError);
    EXPECT_THROW(is_results_file(folder / "."), FileError);
}

TEST(ResultsFile, WritingReplacesWholeFilesOnly) {
    const TemporaryFolder folder;
    const std::string path = folder / "a.h5";
    {
        ResultsOutput output(path, false);
        EXPECT_FALSE(file_exists(path)) << "nothing is at the path before there is a whole file";
        output.commit(sample());
    }
    EXPECT_EQ(read_results(path), sample());
    EXPECT_EQ(folder.listing(), "a.h5");
    EXPECT_THROW(ResultsOutput(path, false), FileError);
    {
        ResultsOutput output(path, true);
        EXPECT_EQ(read_results(path), sample()) << "an old file stays until the new one is whole";
    }
    EXPECT_EQ(read_results(path), sample());
}

TEST(ResultsFile, TwoWritersOfOnePathAreRefused) {
    const TemporaryFolder folder;
    const std::string path = folder / "a.h5";
    const ResultsOutput first(path, false);
    try {
        const ResultsOutput second(path, true);
        FAIL() << "two writers";
    } catch (const FileError& error) {
        EXPECT_EQ(error.what(), path + ": another mobalab is writing it; wait for it or give another --out");
    }
}

TEST(ResultsFile, TheLockGoesWithItsHolder) {
    const TemporaryFolder folder;
    const std::string path = folder / "a.h5";
    { const ResultsOutput first(path, false); }
    { const ResultsOutput second(path, false); }
    EXPECT_EQ(folder.listing(), "");
}

TEST(ResultsFile, AFailedReplacementLeavesTheOldFile) {
    const TemporaryFolder folder;
    std::filesystem::create_directory(folder / "a.h5");  // rename() cannot replace a folder by a file
    EXPECT_THROW(write_file_atomically(folder / "a.h5", "text"), FileError);
    EXPECT_EQ(folder.listing(), "a.h5") << "and nothing beside it";
}

TEST(ResultsFile, TaskIdsTellTextsApart) {
    EXPECT_EQ(task_id("a"), task_id("a"));
    EXPECT_NE(task_id("a"), task_id("b"));
    // uuid5(NAMESPACE_OID, "a") of Python's uuid module
    EXPECT_EQ(task_id("a"), "d720e32d-4765-5177-b65b-42dd7f6e6445");
}

TEST(ResultsFile, TheStartTimeCanBeFixed) {
    ::setenv("SOURCE_DATE_EPOCH", "86400", 1);
    EXPECT_EQ(new_results("theory").utc_time, "1970-01-02T00:00:00Z");
    ::unsetenv("SOURCE_DATE_EPOCH");
    const std::time_t before = std::time(nullptr);
    const std::string now = new_results("theory").utc_time;
    const auto text_of = [](std::time_t time) { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(time)); };
    EXPECT_GE(now, text_of(before));
    EXPECT_LE(now, text_of(std::time(nullptr)));
}

}  // namespace
}  // namespace mobalab::experiments
