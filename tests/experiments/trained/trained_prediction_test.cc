#include "experiments/trained/trained_prediction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "analysis/cluster_interval.h"
#include "analysis/measured_scores/sample_standardised.h"
#include "analysis/measured_scores/several_heads.h"
#include "analysis/measured_scores/standardised_hit.h"
#include "experiments/trained/arm_tables.h"

namespace mobalab::experiments {
namespace {

using analysis::hit_of_standardised;
using analysis::StandardisedSignal;

TrainedRun moba_run(std::int64_t topk = 3, const std::string& scorer = "mean") {
    TrainedRun run;
    run.name = "m";
    run.attention = "moba";
    run.block_size = 32;
    run.topk = topk;
    run.scorer = scorer;
    run.heads = 2;
    run.layers = 4;
    return run;
}

HeadRecord head_of(std::int64_t layer, std::int64_t head, std::map<std::string, double> statistics) {
    HeadRecord record;
    record.run = "m";
    record.seq_len = 1024;
    record.layer = layer;
    record.head = head;
    record.queries = 17;
    record.hits = 9;
    record.sequence_queries = {9, 8};
    record.sequence_hits = {6, 3};
    record.candidates = {{30, 10}, {31, 7}};
    record.statistics = std::move(statistics);
    return record;
}

AccuracyRecord accuracy_of(double correlation) {
    AccuracyRecord record;
    record.run = "m";
    record.seq_len = 1024;
    record.asked = 20;
    record.correct = 12;
    record.sequences = 2;
    record.sequence_correct = {7, 5};
    record.own_block = 3;
    record.any_hit = 11;
    record.any_hit_correct = 8;
    record.no_hit_correct = 1;
    record.signal_correlation = correlation;
    return record;
}

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
const std::vector<StandardisedSignal> recorded = {{1.5, 0.8}, {0.9, 1.1}, {0.2, 1.0}, {0.0, 1.0}};

const std::vector<analysis::CandidateRows> queries = {{30, 10.0}, {31, 7.0}};

/// What the recorded moments say of the scores themselves.
const std::vector<StandardisedSignal> signals = [] {
    std::vector<StandardisedSignal> all;
    for (const StandardisedSignal& z : recorded) all.push_back(analysis::signal_of_sample(z.a, z.r, queries));
    return all;
}();

/// Four heads in layers 1 and 3.
TrainingRecords four_heads(TrainedRun run, double correlation) {
    TrainingRecords records;
    records.runs = {std::move(run)};
    for (std::size_t i = 0; i < signals.size(); ++i) {
        const auto place = static_cast<std::int64_t>(i);
        records.heads.push_back(
            head_of(place < 2 ? 1 : 3, place % 2, {{"signal_mean", recorded[i].a}, {"signal_sd", recorded[i].r}}));
    }
    records.accuracies = {accuracy_of(correlation)};
    return records;
}

TrainedOutcomes outcomes(const TrainingRecords& records) {
    return outcomes_of(records, 0.95, [](double fraction, const std::string& text) {
        EXPECT_TRUE(fraction >= 0.0 && fraction <= 1.0);
        EXPECT_TRUE(text.starts_with("run "));
    });
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
    return std::ranges::find(names, name) != names.end();
}

/// Mean over the queries' numbers of candidates.
template <typename At>
double mean_of(At at) {
    return (10.0 * at(30) + 7.0 * at(31)) / 17.0;
}

/// P(some of the first heads hits) where their z have this correlation.
double correlated_any_hit(std::size_t heads, double correlation) {
    const std::span<const StandardisedSignal> of_heads(signals.data(), heads);
    double shared = 0.0;  // of z's spread, by all heads
    for (std::size_t i = 0; i < heads; ++i) {
        const double inverse_sd = mean_of([](std::int64_t c) { return analysis::mean_inverse_sd(c - 1); });
        shared += signals[i].r / recorded[i].r * inverse_sd / static_cast<double>(heads);
    }
    const double rho = correlation / (shared * shared);
    return mean_of([&](std::int64_t c) { return analysis::any_hit_of_standardised(of_heads, rho, c, 2); });
}

TEST(TrainedPrediction, HitsAreTheExactIntegralOverTheQueriesCandidates) {
    const TrainingRecords records = four_heads(moba_run(), nan);
    const TrainedOutcomes found = outcomes(records);
    ASSERT_EQ(found.heads.size(), 4u);
    for (std::size_t i = 0; i < signals.size(); ++i) {
        EXPECT_DOUBLE_EQ(found.heads[i].predicted_hit,
                         mean_of([&](std::int64_t c) { return hit_of_standardised(signals[i], c, 2); }));
        EXPECT_DOUBLE_EQ(found.heads[i].uncorrected_hit,
                         mean_of([&](std::int64_t c) { return hit_of_standardised(recorded[i], c, 2); }));
        EXPECT_DOUBLE_EQ(found.heads[i].hit.value, 9.0 / 17.0);
    }
    const std::vector<analysis::ClusterTotal> clusters = {{6, 9}, {3, 8}};
    EXPECT_EQ(found.heads[0].hit.low, analysis::clustered_share(clusters, 1.0 - 0.95).low);
    EXPECT_EQ(found.heads[0].hit.high, analysis::clustered_share(clusters, 1.0 - 0.95).high);
}

TEST(TrainedPrediction, AccuracyIsOwnBlocksAndWhatSomeHeadFinds) {
    const TrainingRecords records = four_heads(moba_run(), 0.4);
    const AccuracyOutcome found = outcomes(records).accuracies.at(0);
    EXPECT_DOUBLE_EQ(found.accuracy.value, 0.6);
    EXPECT_DOUBLE_EQ(found.any_hit.value, 11.0 / 17.0);
    EXPECT_DOUBLE_EQ(found.found_share, 0.15 + 0.85 * 11.0 / 17.0);
    EXPECT_DOUBLE_EQ(found.read_out, 8.0 / 11.0);
    EXPECT_DOUBLE_EQ(found.answered_unrouted, 1.0 / 6.0);
    EXPECT_DOUBLE_EQ(found.independent_any_hit, 1.0 - std::pow(8.0 / 17.0, 4));
    const auto none_of = [](std::int64_t c, std::size_t first, std::size_t last) {
        double none = 1.0;
        for (std::size_t i = first; i < last; ++i) none *= 1.0 - hit_of_standardised(signals[i], c, 2);
        return none;
    };
    const double any = mean_of([&](std::int64_t c) { return 1.0 - none_of(c, 0, 4); });
    EXPECT_NEAR(found.predicted_any_hit, any, 1e-12);
    EXPECT_NEAR(found.predicted_accuracy, 0.15 + 0.85 * any, 1e-12);
    const double correlated = correlated_any_hit(signals.size(), 0.4);
    EXPECT_NEAR(found.predicted_any_hit_correlated, correlated, 1e-12);
    EXPECT_LT(correlated, any - 0.01);
    EXPECT_NEAR(found.predicted_accuracy_correlated, 0.15 + 0.85 * correlated, 1e-12);
    EXPECT_NEAR(found.predicted_accuracy_retrieval_layer, 0.15 + 0.85 * correlated_any_hit(2, 0.4), 1e-12);
    EXPECT_NEAR(outcomes(four_heads(moba_run(), nan)).accuracies.at(0).predicted_accuracy_retrieval_layer,
                0.15 + 0.85 * mean_of([&](std::int64_t c) { return 1.0 - none_of(c, 0, 2); }), 1e-12);
}

TEST(TrainedPrediction, TheRetrievalLayerIsTheOneWithMostSignalNotWithMostHits) {
    TrainingRecords records = four_heads(moba_run(), nan);
    for (const std::size_t head : {2, 3}) {
        records.heads[head].statistics["signal_sd"] = 60.0;  // half of such queries stand far above every rival
    }
    const TrainedOutcomes found = outcomes(records);
    ASSERT_GT(found.heads[2].predicted_hit, found.heads[0].predicted_hit);
    EXPECT_NEAR(found.accuracies[0].predicted_accuracy_retrieval_layer,
                outcomes(four_heads(moba_run(), nan)).accuracies[0].predicted_accuracy_retrieval_layer, 1e-12);
}

TEST(TrainedPrediction, AVariantWhoseHeadsWereMeasuredWithItsAnswersHasPredictions) {
    TrainingRecords records = four_heads(moba_run(), nan);
    records.accuracies[0].variant = "no-relays";
    records.accuracies[0].sequence_own_block = {1, 2};
    records.accuracies[0].sequence_any_hit = {7, 4};
    for (HeadRecord& head : records.heads) {
        head.variant = "no-relays";
    }
    const AccuracyOutcome found = outcomes(records).accuracies.at(0);
    EXPECT_DOUBLE_EQ(found.any_hit.value, 11.0 / 17.0);
    EXPECT_EQ(found.predicted_accuracy, outcomes(four_heads(moba_run(), nan)).accuracies.at(0).predicted_accuracy);
    const std::vector<std::string> quantities = [&] {
        const Table errors = training_errors_table(records, outcomes(records), 0.95);
        return errors.texts("quantity");
    }();
    EXPECT_TRUE(contains(quantities, "accuracy without relays, retrieval layer"));
    EXPECT_FALSE(contains(quantities, "accuracy"));
}

TEST(TrainedPrediction, ErrorsOfConvolvedRunsStandApartWhereThereAreBoth) {
    TrainingRecords records = four_heads(moba_run(), nan);
    const auto count_of_arms = [&](const std::string& arms) {
        const std::vector<std::string> found = training_errors_table(records, outcomes(records), 0.95).texts("arm");
        return std::ranges::count(found, arms);
    };
    EXPECT_EQ(count_of_arms("key convolution"), 0);
    TrainedRun other = moba_run();
    other.name = "convolved";
    other.key_conv = 3;
    records.runs.push_back(other);
    for (std::size_t i = 0; i < 4; ++i) {
        records.heads.push_back(records.heads[i]);
        records.heads.back().run = "convolved";
    }
    records.accuracies.push_back(records.accuracies[0]);
    records.accuracies.back().run = "convolved";
    EXPECT_GT(count_of_arms("key convolution"), 0);
    EXPECT_EQ(count_of_arms("key convolution"), count_of_arms("no key convolution"));
}

TEST(TrainedPrediction, TheRandomRouterIsChance) {
    const TrainingRecords records = four_heads(moba_run(3, "random"), nan);
    const TrainedOutcomes found = outcomes(records);
    EXPECT_DOUBLE_EQ(found.heads[0].predicted_hit, mean_of([](std::int64_t c) { return 2.0 / double(c); }));
    EXPECT_NEAR(found.accuracies[0].predicted_any_hit,
                mean_of([](std::int64_t c) { return 1.0 - std::pow(1.0 - 2.0 / double(c), 4); }), 1e-12);
    const TrainingRecords all = four_heads(moba_run(40, "random"), nan);
    EXPECT_EQ(outcomes(all).heads[0].predicted_hit, 1.0);
}

TEST(TrainedPrediction, WithoutStatisticsThereIsNone) {
    TrainingRecords records = four_heads(moba_run(3, "quest"), 0.4);
    records.heads[3].statistics.erase("signal_sd");
    const TrainedOutcomes found = outcomes(records);
    EXPECT_FALSE(std::isnan(found.heads[2].predicted_hit));
    EXPECT_TRUE(std::isnan(found.heads[3].predicted_hit));
    for (const double value :
         {found.accuracies[0].predicted_any_hit, found.accuracies[0].predicted_accuracy,
          found.accuracies[0].predicted_accuracy_correlated, found.accuracies[0].predicted_accuracy_retrieval_layer}) {
        EXPECT_TRUE(std::isnan(value));
    }
    EXPECT_FALSE(std::isnan(found.accuracies[0].independent_any_hit));
}

TEST(TrainedPrediction, TooFewCandidatesForMomentsHaveNone) {
    TrainingRecords records = four_heads(moba_run(), nan);
    records.heads[0].candidates = {{4, 10}, {31, 7}};
    EXPECT_TRUE(std::isnan(outcomes(records).heads[0].predicted_hit));
    EXPECT_TRUE(std::isnan(outcomes(records).accuracies[0].predicted_accuracy));
}

TEST(TrainedPrediction, AttentionThatDoesNotRouteAndVariantsHaveNone) {
    TrainingRecords records = four_heads(moba_run(), nan);
    records.accuracies[0].variant = "no-conv";
    EXPECT_TRUE(std::isnan(outcomes(records).accuracies[0].predicted_accuracy));
    EXPECT_TRUE(std::isnan(outcomes(records).accuracies[0].any_hit.value));
    records.runs[0].attention = "dense";
    records.heads.clear();
    records.accuracies[0].variant.clear();
    EXPECT_TRUE(std::isnan(outcomes(records).accuracies[0].any_hit.value));
    EXPECT_DOUBLE_EQ(outcomes(records).accuracies[0].accuracy.value, 0.6);
}

TEST(TrainedPrediction, AnyHitsBySequenceGiveItsInterval) {
    TrainingRecords records = four_heads(moba_run(), nan);
    EXPECT_TRUE(std::isnan(outcomes(records).accuracies[0].any_hit.low));
    records.accuracies[0].sequence_own_block = {1, 2};
    records.accuracies[0].sequence_any_hit = {7, 4};
    const std::vector<analysis::ClusterTotal> clusters = {{7, 9}, {4, 8}};
    EXPECT_EQ(outcomes(records).accuracies[0].any_hit.low, analysis::clustered_share(clusters, 1.0 - 0.95).low);
}

}  // namespace
}  // namespace mobalab::experiments
