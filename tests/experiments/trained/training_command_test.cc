// mobalab training as a user runs it.
#include <gmock/gmock.h>

#include <cmath>
#include <tuple>

#include "experiments/results/results_file.h"
#include "tests/experiments/captured.h"
#include "tests/experiments/trained/record_lines.h"

namespace mobalab::experiments {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class TrainingCommand : public testing::Test {
protected:
    Captured run(const std::string& flags, const std::vector<json>& records) const {
        spill(folder_ / "r.jsonl", json_lines(records));
        std::vector<std::string> args = words("training " + flags);
        for (std::string& arg : args) {
            arg = arg.ends_with(".h5") || arg.ends_with(".jsonl") ? folder_ / arg : arg;
        }
        return run_captured(args);
    }

    /// The results file that the records make.
    Results results(const std::vector<json>& records) const {
        const Captured done = run("r.jsonl --force --out t.h5", records);
        EXPECT_EQ(done.code, 0) << done.err;
        return read_results(folder_ / "t.h5");
    }

    TemporaryFolder folder_;
};

/// Two seeds of one arm, and a dense model.
std::vector<json> recall() {
    std::vector<json> records = {run_record("m"), run_record("n", 1), plain_run("d", "dense", "recall")};
    for (const char* run : {"m", "n"}) {
        records.push_back(accuracy_record(run));
        records.push_back(head_record(0, run));
        records.push_back(head_record(1, run));
    }
    json& second = records[6];
    second.update({{"correct", 14}, {"sequence_correct", {8, 6}}});
    json dense = accuracy_record("d");
    dense.update({{"correct", 20}, {"sequence_correct", {10, 10}}, {"any_hit", 0}, {"own_block", 0}});
    records.push_back(dense);
    records.push_back(
        {{"kind", "curve"}, {"run", "m"}, {"step", 5}, {"seq_len", 512}, {"tokens", 2048}, {"loss", 3.5}});
    return records;
}

std::vector<json> language() {
    return {plain_run("dense-0", "dense", "language"),
            plain_run("dense-1", "dense", "language"),
            plain_run("local", "local", "language"),
            validation_record("dense-0", 2.0, 3.0),
            validation_record("dense-1", 2.2, 3.4),
            validation_record("local", 2.4, 3.3),
            {{"kind", "position"},
             {"run", "local"},
             {"seq_len", 2048},
             {"from", 0},
             {"to", 64},
             {"tokens", 128},
             {"loss", 4.0}},
            {{"kind", "needle"}, {"run", "local"}, {"seq_len", 2048}, {"depth", 0.5}, {"asked", 20}, {"correct", 3}}};
}

TEST_F(TrainingCommand, TablesHoldWhatWasRecorded) {
    const Results results = this->results(recall());
    EXPECT_EQ(results.subcommand, "training");
    const Table& training = results.table("training");
    EXPECT_THAT(training.texts("run"), ElementsAre("m", "n", "d"));
    EXPECT_THAT(training.texts("arm"), ElementsAre("moba B 32 k 3 d 64", "moba B 32 k 3 d 64", "dense d 64"));
    EXPECT_THAT(training.reals("accuracy"), ElementsAre(0.6, 0.7, 1.0));
    EXPECT_THAT(training.texts("variant"), testing::Each("as trained"));
    EXPECT_FALSE(std::isnan(training.reals("predicted_accuracy")[0]));
    EXPECT_TRUE(std::isnan(training.reals("predicted_accuracy")[2]));
    EXPECT_EQ(results.table("training_heads").rows(), 4u);
    EXPECT_THAT(results.table("training_heads").reals("signal_mean"), testing::Each(1.5));
    EXPECT_THAT(results.table("training_heads").reals("key_norm"), testing::Each(testing::IsNan()));
    EXPECT_EQ(results.table("training_curves").reals("loss"), std::vector<double>{3.5});
    EXPECT_EQ(results.table("training_runs").rows(), 3u);
    EXPECT_EQ(std::get<double>(training.attributes.at("confidence")), 0.95);
}

TEST_F(TrainingCommand, AnArmIsTheMeanOverItsSeeds) {
    const Table arms = results(recall()).table("training_arms");
    EXPECT_THAT(arms.texts("arm"), ElementsAre("moba B 32 k 3 d 64", "dense d 64"));
    EXPECT_THAT(arms.integers("seeds"), ElementsAre(2, 1));
    EXPECT_NEAR(arms.reals("accuracy")[0], 0.65, 1e-12);
    EXPECT_LT(arms.reals("accuracy_low")[0], 0.3);  // two seeds say little
    EXPECT_EQ(arms.reals("accuracy_low")[1], 0.0);  // and one nothing
}

TEST_F(TrainingCommand, ErrorsAreCountedByArmAndLength) {
    std::vector<json> records = recall();
    for (const std::int64_t head : {0, 1}) {
        json longer = head_record(head, "m");
        longer["seq_len"] = 2048;
        records.push_back(longer);
    }
    const Results results = this->results(records);
    const Table& errors = results.table("training_errors");
    const Table& heads = results.table("training_heads");
    std::map<std::tuple<std::string, std::string, std::string>, std::size_t> rows;
    for (std::size_t row = 0; row < errors.rows(); ++row) {
        rows[{errors.texts("arm")[row], errors.texts("quantity")[row], errors.texts("lengths")[row]}] = row;
    }
    const auto value = [&](const std::string& column, const std::string& quantity, const std::string& lengths) {
        return errors.integers(column)[rows.at({"all", quantity, lengths})];
    };
    EXPECT_EQ(value("values", "hit", "all"), 6);
    EXPECT_EQ(value("values", "hit", "shortest"), 4);
    EXPECT_EQ(value("runs", "hit", "all"), 2);
    EXPECT_EQ(value("values", "accuracy", "all"), 2);
    EXPECT_FALSE(rows.contains({"dense d 64", "accuracy", "all"}));
    EXPECT_FALSE(rows.contains({"all", "accuracy, correlated heads", "all"}));
    const double error = heads.reals("predicted_hit")[0] - 9.0 / 17.0;
    EXPECT_NEAR(errors.reals("mean_absolute_error")[rows.at({"all", "hit", "all"})], std::abs(error), 1e-12);
    EXPECT_NEAR(errors.reals("mean_error")[rows.at({"moba B 32 k 3 d 64", "hit", "all"})], error, 1e-12);
}

TEST_F(TrainingCommand, LossesAreComparedOnTheSameSequences) {
    const Results results = this->results(language());
    const Table& validation = results.table("training_validation");
    EXPECT_NEAR(validation.reals("loss")[2], 2.85, 1e-12);
    EXPECT_TRUE(std::isnan(validation.reals("loss_above_dense")[0]));
    // Differences from the dense runs' mean, 2.1 and 3.2: 0.3 and 0.1; t of one degree of freedom 12.706.
    EXPECT_NEAR(validation.reals("loss_above_dense")[2], 0.2, 1e-12);
    EXPECT_NEAR(validation.reals("loss_above_dense_high")[2], 0.2 + 12.706 * 0.1, 1e-3);
    EXPECT_TRUE(std::isnan(results.table("training_positions").reals("loss_low")[0]));
    EXPECT_NEAR(results.table("training_needles").reals("accuracy")[0], 0.15, 1e-12);
    EXPECT_NEAR(results.table("training_needles").reals("accuracy_high")[0], 0.3789, 1e-3);
    EXPECT_EQ(results.tables.front().name, "training_validation");
}

TEST_F(TrainingCommand, SequencesOfADocumentAreACluster) {
    // Less their mean 3 the losses are -2, -1, 0, 3: sums -3 and 3 of documents, so the standard error is
    // sqrt((9 + 9) 2 / 1) / 4 = 1.5 with one degree of freedom.
    json loss = validation_record("d", 1.0, 2.0);
    loss.update(
        {{"sequences", 4}, {"loss", 3.0}, {"sequence_loss", {1, 2, 3, 6}}, {"sequence_document", {0, 0, 1, 1}}});
    json position = {{"kind", "position"}, {"run", "d"}, {"seq_len", 2048}, {"from", 0}, {"to", 64}, {"tokens", 256}};
    position.update({{"loss", 3.0}, {"sequences", 4}, {"sequence_loss", {1, 2, 3, 6}}});
    const Results results = this->results({plain_run("d", "dense", "language"), loss, position});
    for (const char* table : {"training_validation", "training_positions"}) {
        EXPECT_NEAR(results.table(table).reals("loss")[0], 3.0, 1e-12);
        EXPECT_NEAR(results.table(table).reals("loss_high")[0], 3.0 + 12.7062 * 1.5, 1e-3) << table;
    }
    loss["sequence_document"] = {7, 7, 7, 7};
    EXPECT_TRUE(std::isnan(
        this->results({plain_run("d", "dense", "language"), loss}).table("training_validation").reals("loss_high")[0]));
}

TEST_F(TrainingCommand, SaysItInATableForPeopleAndForPrograms) {
    const Captured shown = run("r.jsonl", recall());
    EXPECT_EQ(shown.code, 0) << shown.err;
    EXPECT_THAT(shown.out, testing::StartsWith("3 trained models\n"));
    EXPECT_THAT(shown.out, HasSubstr("moba B 32 k 3 d 64"));
    EXPECT_THAT(shown.out, HasSubstr("predictions from statistics of the models' own keys:"));
    const json rows = json::parse(run("r.jsonl --json", recall()).out);
    ASSERT_EQ(rows.size(), 3u);
    EXPECT_EQ(rows[1].at("accuracy"), 0.7);
    EXPECT_TRUE(rows[2].at("predicted_accuracy").is_null());
    std::vector<json> earlier = language();
    earlier.push_back(validation_record("local", 7.25, 7.5));
    earlier.back()["step"] = 50;
    const Captured words = run("r.jsonl", earlier);
    EXPECT_THAT(words.out, Not(HasSubstr("7.375")));
    EXPECT_THAT(words.out, HasSubstr("above_dense"));
    EXPECT_THAT(words.out, Not(HasSubstr("predictions")));
}

TEST_F(TrainingCommand, TheFileDoesNotDependOnAnythingElse) {
    ::setenv("SOURCE_DATE_EPOCH", "0", 1);
    run("r.jsonl --out a.h5", recall());
    const std::string first = slurp(folder_ / "a.h5");
    run("r.jsonl --out a.h5 --force", recall());
    EXPECT_EQ(slurp(folder_ / "a.h5"), first);
    ::unsetenv("SOURCE_DATE_EPOCH");
}

TEST_F(TrainingCommand, ErrorsAreOneLineAndLeaveNothingBehind) {
    const auto error = [&](const std::string& flags, const std::vector<json>& records, const std::string& said) {
        const Captured captured = run(flags, records);
        EXPECT_EQ(captured.code, 2) << flags;
        EXPECT_EQ(captured.out, "");
        EXPECT_THAT(captured.err, HasSubstr(said));
        EXPECT_EQ(std::count(captured.err.begin(), captured.err.end(), '\n'), 1) << captured.err;
        EXPECT_EQ(folder_.listing(), "r.jsonl");
    };
    error("", recall(), "name at least one file of records");
    error("r.jsonl --force", recall(), "force: is about a results file");
    error("r.jsonl --confidence 1.5 --out t.h5", recall(), "confidence = 1.5");
    error("none.jsonl --out t.h5", recall(), "none.jsonl");
    error("r.jsonl --out t.h5", {head_record(0)}, "line 1: run = m: has no record of kind run");
    std::vector<json> wide = recall();
    wide[1]["width"] = 256;
    error("r.jsonl --out t.h5", wide, "run n is of the same arm (moba B 32 k 3 d 64) as run m");
}

}  // namespace
}  // namespace mobalab::experiments
