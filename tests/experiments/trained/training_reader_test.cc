#include "experiments/trained/training_reader.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>
#include <tuple>

#include "experiments/base/regular_file.h"
#include "tests/experiments/captured.h"
#include "tests/experiments/commands/mutations.h"
#include "tests/experiments/trained/record_lines.h"

namespace mobalab::experiments {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class TrainingReader : public testing::Test {
protected:
    TrainingRecords read(const std::string& text) const {
        spill(path(), text);
        return read_training_records({path()});
    }
    TrainingRecords read(const std::vector<json>& records) const { return read(json_lines(records)); }

    /// What the error says behind "PATH: "; empty: none.
    std::string error_of_text(const std::string& text) const {
        try {
            read(text);
        } catch (const FileError& error) {
            const std::string said = error.what();
            EXPECT_THAT(said, testing::StartsWith(path() + ": "));
            EXPECT_THAT(said, Not(HasSubstr("\n")));
            return said.substr(path().size() + 2);
        }
        return "";
    }
    std::string error_of(const std::vector<json>& records) const { return error_of_text(json_lines(records)); }

    std::string path() const { return folder_ / "r.jsonl"; }
    TemporaryFolder folder_;
};

const std::vector<json> whole = {run_record(), accuracy_record(), head_record(0), head_record(1)};

/// The records `whole` with a field of one of them changed.
std::vector<json> changed(std::size_t record, const std::string& field, const json& value) {
    std::vector<json> records = whole;
    records[record][field] = value;
    return records;
}

std::vector<json> without(std::size_t record, const std::string& field) {
    std::vector<json> records = whole;
    records[record].erase(field);
    return records;
}

std::vector<json> together(std::vector<json> records, const std::vector<json>& more) {
    records.insert(records.end(), more.begin(), more.end());
    return records;
}

TEST_F(TrainingReader, KeepsWhatIsWritten) {
    const TrainingRecords records = read(whole);
    ASSERT_EQ(records.runs.size(), 1u);
    EXPECT_EQ(records.runs[0].topk, 3);
    EXPECT_EQ(records.runs[0].learned, -1);
    ASSERT_EQ(records.accuracies.size(), 1u);
    EXPECT_THAT(records.accuracies[0].sequence_correct, ElementsAre(7, 5));
    ASSERT_EQ(records.heads.size(), 2u);
    EXPECT_EQ(records.heads[1].head, 1);
    EXPECT_EQ(records.heads[1].candidates.at(31), 7);
    EXPECT_EQ(records.heads[0].statistic("signal_mean"), 1.5);
    EXPECT_TRUE(std::isnan(records.heads[0].statistic("key_norm")));
    EXPECT_EQ(records.heads[1].place, path() + ": line 4");
}

TEST_F(TrainingReader, ARunMayBeSpreadOverFilesInAnyOrder) {
    const std::string other = folder_ / "other.jsonl";
    spill(path(), json_lines({head_record(1), accuracy_record()}));
    spill(other, json_lines({head_record(0), run_record()}));
    EXPECT_EQ(read_training_records({path(), other}).heads.size(), 2u);
    EXPECT_THROW(read_training_records({path(), path()}), FileError);
}

TEST_F(TrainingReader, RefusesWhatIsNoLineOfJson) {
    EXPECT_THAT(error_of_text(""), HasSubstr("is empty"));
    const std::string good = json_lines(whole);
    EXPECT_THAT(error_of_text(good.substr(0, good.size() - 1)),
                HasSubstr("line 4: has no end: the file was cut short"));
    EXPECT_THAT(error_of_text(good.substr(0, good.size() - 9)), HasSubstr("line 4: has no end"));
    EXPECT_THAT(error_of_text(good + "\n"), HasSubstr("line 5: is no valid JSON"));
    EXPECT_THAT(error_of_text(good + "[1]\n"), HasSubstr("line 5: [1] is no record"));
    EXPECT_THAT(error_of_text(good + "{\"kind\": \"run\", \"kind\": \"run\"}\n"),
                HasSubstr("has the key \"kind\" twice"));
    EXPECT_THAT(error_of_text(good + "{\"kind\": NaN}\n"), HasSubstr("line 5: is no valid JSON"));
    EXPECT_THAT(error_of_text(good + "{\"kind\": \"curve\", \"loss\": 1e999}\n"),
                HasSubstr("line 5: is no valid JSON"));
    EXPECT_THAT(error_of_text(good + "{\"kind\": \"run\xff\"}\n"), HasSubstr("line 5: is no valid JSON"));
}

TEST_F(TrainingReader, RefusesFieldsThatBreakTheirRule) {
    const std::vector<std::tuple<std::size_t, std::string, std::string, std::string>> cases = {
        {0, "kind", R"("rnu")", "line 1: kind = \\x22rnu\\x22: must be one of run, accuracy"},
        {0, "kind", R"(3)", "line 1: kind = 3: must be a text"},
        {0, "run", R"("")", "line 1: run = \\x22\\x22: must not be empty"},
        {0, "run", R"("a\nb")", "must have no control characters"},
        {0, "attention", R"("mobba")", "must be one of dense, moba, local; nearest valid: moba"},
        {0, "scorer", R"("")", "must not be empty"},
        {0, "scorer", R"("quset")", "nearest valid: quest"},
        {0, "scorer", R"("submean-x")", "must be submean-R"},
        {0, "scorer", R"("submean-1")", "must be submean-R"},
        {0, "block_size", R"(0)", "block_size = 0: must be from 1 to 2147483648; nearest valid: 1"},
        {0, "topk", R"(2.5)", "topk = 2.5: must be a whole number"},
        {0, "key_conv", R"(9)", "key_conv = 9: must be from 0 to 8; nearest valid: 8"},
        {0, "seed", R"(-1)", "seed = -1: must be at least 0; nearest valid: 0"},
        {0, "seconds", R"("1")", "seconds = \\x221\\x22: must be a number"},
        {0, "learned", R"(2)", "learned = 2: must be from 0 to 1"},
        {0, "stages", R"([[128, 10]])", "must be a list of lists of 3 numbers"},
        {0, "head_dims", R"(64)", "head_dims = 64: is no field of this kind of record; nearest valid: head_dim"},
        {1, "asked", R"(21)", "line 2: asked = 21: must be a multiple of sequences = 2"},
        {1, "correct", R"(21)", "correct = 21: must be from 0 to 20; nearest valid: 20"},
        {1, "correct", R"(11)", "sequence_correct = [7,5]: sums to 12 and must sum to correct = 11"},
        {1, "sequence_correct", R"([12])", "has 1 entries and must have one a sequence: 2"},
        {1, "sequence_correct", R"([11, 1])", "entry 0 is 11 and must be at most 10"},
        {1, "own_block", R"(21)", "own_block = 21: must be from 0 to 20"},
        {1, "any_hit", R"(18)", "any_hit = 18: must be from 0 to 17"},
        {1, "any_hit_correct", R"(12)", "any_hit_correct = 12: must be from 0 to 11"},
        {1, "no_hit_correct", R"(7)", "no_hit_correct = 7: must be from 0 to 6"},
        {1, "signal_correlation", R"(1.5)", "signal_correlation = 1.5: must be from -1 to 1; nearest valid: 1"},
        {1, "sequence_any_hit", R"([6, 5])", "go together"},
        {1, "variant", R"(1)", "variant = 1: must be a text"},
        {2, "hits", R"(18)", "line 3: hits = 18: must be from 0 to 17; nearest valid: 17"},
        {2, "sequence_hits", R"([9, 0])", ""},
        {2, "sequence_hits", R"([0, 9])", "entry 1 is 9 and must be at most 8"},
        {2, "sequence_hits", R"([5, 3])", "sums to 8 and must sum to hits = 9"},
        {2, "sequence_queries", R"([9, 9])", "sums to 18 and must sum to queries = 17"},
        {2, "candidates", R"([[30, 17], [30, 1]])", "has the value 30 twice"},
        {2, "candidates", R"([[30, 16]])", "sums to 16 and must sum to queries = 17"},
        {2, "candidates", R"([[0, 17]])", "must be from 1 to 1000000"},
        {2, "candidates", R"([30, 17])", "must be a list of pairs"},
        {2, "signal_sd", R"(-0.1)", "signal_sd = -0.1: must be"},
        {2, "signal_mean", R"(null)", "signal_mean = null: must be a number"},
        {2, "signal_men", R"(1.0)", "nearest valid: signal_mean"},
        {2, "profile", R"([[0.5, 1.0]])", "with whole offsets"},
        {2, "profile", R"([[0, 1.0], [0, 1.0]])", "has the offset 0 twice"},
    };
    for (const auto& [record, field, value, said] : cases) {
        const std::string error = error_of(changed(record, field, json::parse(value)));
        EXPECT_THAT(error, HasSubstr(said)) << field << " = " << value;
        EXPECT_EQ(error.empty(), said.empty()) << field << " = " << value << ": " << error;
    }
}

TEST_F(TrainingReader, RefusesRecordsThatLackAField) {
    const std::set<std::string> may_lack = {"signal_mean", "signal_sd"};
    for (std::size_t record = 0; record < whole.size(); ++record) {
        for (const auto& [field, value] : whole[record].items()) {
            const std::string error = error_of(without(record, field));
            if (may_lack.contains(field)) {
                EXPECT_EQ(error, "");
            } else {
                EXPECT_THAT(error, HasSubstr(field + " is missing")) << record;
            }
        }
    }
}

TEST_F(TrainingReader, RefusesTheSameRecordTwice) {
    for (const json& record : whole) {
        const std::string error = error_of(together(whole, {record}));
        EXPECT_THAT(error, HasSubstr("line 5: is a second record "));
        EXPECT_THAT(error, HasSubstr("; the first is " + path() + ": line "));
    }
    json variant = head_record(0);
    variant["variant"] = "no-conv";
    json other = head_record(1);
    other["variant"] = "no-conv";
    EXPECT_EQ(error_of(together(whole, {variant, other})), "");
}

TEST_F(TrainingReader, RefusesRecordsThatDoNotFitTogether) {
    EXPECT_THAT(error_of(changed(1, "run", "n")), HasSubstr("line 2: run = n: has no record of kind run"));
    EXPECT_THAT(error_of(changed(2, "head", 2)), HasSubstr("line 3: head = 2: must be from 0 to 1, as the run has 2"));
    EXPECT_THAT(error_of(changed(2, "layer", 4)), HasSubstr("layer = 4: must be from 0 to 3"));
    EXPECT_THAT(error_of({whole[0], whole[1], whole[2]}), HasSubstr("records of 1 heads in layers 1: every head"));
    EXPECT_THAT(error_of(changed(3, "candidates", json::parse("[[29, 10], [31, 7]]"))),
                HasSubstr("line 4: queries, own_block, candidates and sequence_queries must be those of"));
    json elsewhere = head_record(0);
    json elsewhere1 = head_record(1);
    elsewhere.update({{"seq_len", 2048}, {"layer", 3}});
    elsewhere1.update({{"seq_len", 2048}, {"layer", 3}});
    EXPECT_THAT(error_of(together(whole, {elsewhere, elsewhere1})), HasSubstr("of other layers at seq_len 2048 than"));
    json dense = accuracy_record("d");
    EXPECT_THAT(error_of({plain_run("d", "dense", "recall"), dense}),
                HasSubstr("line 2: any_hit = 11: must be 0, as run d has no MoBA layer"));
    EXPECT_THAT(error_of({plain_run("d", "dense", "recall"), head_record(0, "d")}),
                HasSubstr("has attention dense; only moba has records of heads"));
    EXPECT_THAT(error_of({run_record(), validation_record("m", 2.0, 3.0)}),
                HasSubstr("is of the experiment recall, and this kind of record is of language"));
    json loss = validation_record("l", 2.0, 3.0);
    EXPECT_EQ(error_of({plain_run("l", "dense", "language"), loss}), "");
    json position = {{"kind", "position"}, {"run", "l"},     {"seq_len", 2048},
                     {"from", 0},          {"to", 64},       {"tokens", 128},
                     {"loss", 2.5},        {"sequences", 2}, {"sequence_loss", {2, 3}}};
    json needle = {{"kind", "needle"}, {"run", "l"},   {"seq_len", 2048},           {"depth", 0.5},
                   {"asked", 2},       {"correct", 1}, {"sequence_correct", {1, 0}}};
    EXPECT_EQ(error_of({plain_run("l", "dense", "language"), position, needle}), "");
    json unlisted = position;
    unlisted.erase("sequence_loss");
    EXPECT_THAT(error_of({plain_run("l", "dense", "language"), unlisted}), HasSubstr("sequence_loss is missing"));
    position["sequences"] = 3;
    EXPECT_THAT(error_of({plain_run("l", "dense", "language"), position}),
                HasSubstr("has 2 entries and must have one"));
    needle["correct"] = 2;
    EXPECT_THAT(error_of({plain_run("l", "dense", "language"), needle}),
                HasSubstr("sums to 1 and must sum to correct"));
    loss["sequence_document"] = {0, 0, 1};
    EXPECT_THAT(error_of({plain_run("l", "dense", "language"), loss}),
                HasSubstr("sequence_document = [0,0,1]: has 3 entries and must have one a sequence: 2"));
    loss["sequence_document"] = {0, -1};
    EXPECT_THAT(error_of({plain_run("l", "dense", "language"), loss}), HasSubstr("sequence_document"));
    loss["sequence_document"] = {0, 0};
    EXPECT_EQ(error_of({plain_run("l", "dense", "language"), loss}), "");
    loss["loss"] = 2.6;
    EXPECT_THAT(error_of({plain_run("l", "dense", "language"), loss}),
                HasSubstr("loss = 2.6: must be the mean of sequence_loss, which is 2.5"));
}

TEST_F(TrainingReader, DamagedFilesAreReadRightOrRefused) {
    // What is read of a damaged file keeps the rules that predictions rest on.
    Mutator mutator(20261128, {"\n", "\"hits\":", "[]", "null", "1e308", "-1", "{}"});
    const std::string good = json_lines(whole);
    int refused = 0;
    constexpr int files = 1000;
    for (int i = 0; i < files; ++i) {
        try {
            for (const HeadRecord& head : read(mutator.damaged(good)).heads) {
                std::int64_t rows = 0;
                for (const auto& [candidates, count] : head.candidates) {
                    EXPECT_GE(candidates, 1);
                    rows += count;
                }
                EXPECT_EQ(rows, head.queries);
                EXPECT_LE(head.hits, head.queries);
                EXPECT_FALSE(std::isinf(head.statistic("signal_mean")));
            }
        } catch (const FileError& error) {
            ++refused;
            EXPECT_THAT(error.what(), Not(HasSubstr("\n")));
        }
    }
    EXPECT_GT(refused, files / 2);
}

}  // namespace
}  // namespace mobalab::experiments
