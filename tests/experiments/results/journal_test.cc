#include "experiments/results/journal.h"

#include <gtest/gtest.h>

#include "experiments/results/results_file.h"
#include "tests/experiments/captured.h"
#include "tests/experiments/commands/mutations.h"

namespace mobalab::experiments {
namespace {

const Journal::Header header = {{"task", "the task"}, {"command", "mobalab simulate --out 'a b.h5'\n"}};

/// A journal of six records on three keys; the records in the order written.
std::vector<std::pair<std::int64_t, std::string>> write_sample(const std::string& path) {
    const std::vector<std::pair<std::int64_t, std::string>> records = {
        {0, "first"}, {1, "{\"a\": 1}"}, {0, "second"}, {7, ""}, {0, "third"}, {1, "last of one"}};
    Journal journal = Journal::create(path, header);
    for (const auto& [key, payload] : records) {
        journal.record(key, payload);
    }
    return records;
}

std::string refusal(const std::string& path) {
    try {
        Journal::resume(path);
    } catch (const FileError& error) {
        return error.what();
    }
    return "accepted";
}

TEST(Journal, TheLastRecordOfAKeyCounts) {
    const TemporaryFolder folder;
    write_sample(folder / "j");
    const Journal journal = Journal::resume(folder / "j");
    EXPECT_EQ(journal.records(), (std::map<std::int64_t, std::string>{{0, "third"}, {1, "last of one"}, {7, ""}}));
    EXPECT_EQ(journal.header().at("task"), "the task");
    EXPECT_EQ(journal.header().at("command"), header.at("command"));
}

TEST(Journal, CutAtEveryByteItHoldsTheWholeRecordsBeforeTheCut) {
    const TemporaryFolder folder;
    const auto records = write_sample(folder / "whole");
    const std::string text = slurp(folder / "whole");
    const std::size_t header_end = text.find('\n') + 1;
    int cuts_inside_a_record = 0;
    for (std::size_t size = 0; size <= text.size(); ++size) {
        spill(folder / "cut", text.substr(0, size));
        if (size < header_end) {
            EXPECT_EQ(
                refusal(folder / "cut"),
                (folder / "cut") + ": is not a journal of this mobalab; move it away or start afresh with --force");
            continue;
        }
        std::map<std::int64_t, std::string> expected;
        const std::string body = text.substr(header_end, size - header_end);
        const auto whole = static_cast<std::size_t>(std::count(body.begin(), body.end(), '\n'));
        for (std::size_t i = 0; i < whole; ++i) {
            expected[records[i].first] = records[i].second;
        }
        cuts_inside_a_record += !body.empty() && body.back() != '\n' ? 1 : 0;
        {
            Journal journal = Journal::resume(folder / "cut");
            ASSERT_EQ(journal.records(), expected) << "cut at byte " << size;
            journal.record(5, "after the cut");
        }
        expected[5] = "after the cut";
        ASSERT_EQ(Journal::resume(folder / "cut").records(), expected) << "cut at byte " << size;
    }
    EXPECT_GT(cuts_inside_a_record, 50);
}

TEST(Journal, DamageInTheMiddleIsRefusedAtEveryByte) {
    const TemporaryFolder folder;
    write_sample(folder / "whole");
    const std::string text = slurp(folder / "whole");
    const std::size_t last_line = text.rfind('\n', text.size() - 2) + 1;
    for (std::size_t at = 0; at + 1 < last_line; ++at) {  // the line break before it makes one torn line of two
        std::string damaged = text;
        damaged[at] = static_cast<char>(damaged[at] ^ 1);
        spill(folder / "damaged", damaged);
        EXPECT_NE(refusal(folder / "damaged"), "accepted") << "byte " << at;
    }
}

TEST(Journal, OtherFilesAreNotJournals) {
    const TemporaryFolder folder;
    spill(folder / "empty", "");
    spill(folder / "text", "hello\nworld\n");
    EXPECT_NE(refusal(folder / "empty").find("is not a journal"), std::string::npos);
    EXPECT_NE(refusal(folder / "text").find("is not a journal"), std::string::npos);
    EXPECT_EQ(refusal(folder / "missing"), (folder / "missing") + ": cannot be read: No such file or directory");
}

TEST(Journal, ALargeOneIsRewrittenWithItsLastRecords) {
    const TemporaryFolder folder;
    Journal journal = Journal::create(folder / "j", header);
    journal.set_compaction_size(4096);
    const std::string text(50, 'x');
    for (int i = 0; i < 1000; ++i) {
        journal.record(i % 3, text + std::to_string(i));
    }
    EXPECT_LT(std::filesystem::file_size(folder / "j"), 8192U);  // 1000 records would be 60 kB
    const std::map<std::int64_t, std::string> expected = journal.records();
    ASSERT_EQ(expected.size(), 3U);
    EXPECT_EQ(expected.at(0), text + "999");
    EXPECT_EQ(Journal::resume(folder / "j").records(), expected);
}

TEST(Journal, AJournalOfLargeLiveRecordsIsNotRewrittenEachTime) {
    const TemporaryFolder folder;
    Journal journal = Journal::create(folder / "j", header);
    journal.set_compaction_size(1000);
    for (int i = 0; i < 200; ++i) {
        journal.record(i, std::string(100, 'y'));
    }
    EXPECT_EQ(Journal::resume(folder / "j").records().size(), 200U);
}

TEST(Journal, DamagedItIsRefusedOrHoldsOnlyRecordsThatWereWritten) {
    const TemporaryFolder folder;
    const auto written = write_sample(folder / "whole");
    const std::string text = slurp(folder / "whole");
    Mutator mutator(20251125);
    int refused = 0;
    int fewer = 0;
    for (int i = 0; i < 2000; ++i) {
        spill(folder / "damaged", mutator.damaged(text));
        try {
            const Journal journal = Journal::resume(folder / "damaged");
            for (const auto& record : journal.records()) {
                ASSERT_NE(std::find(written.begin(), written.end(),
                                    std::pair<std::int64_t, std::string>(record.first, record.second)),
                          written.end())
                    << "case " << i;
            }
            fewer += journal.records().size() < 3 ? 1 : 0;
        } catch (const FileError&) {
            ++refused;
        }
    }
    EXPECT_GT(refused, 600);
    EXPECT_GT(fewer, 20);
}

}  // namespace
}  // namespace mobalab::experiments
