#include "analysis/key_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "analysis/hit_problem.h"

namespace mobalab::analysis {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Real keys of some other law, of which nothing is declared.
constexpr KeyModelDefinition lawless{.name = "lawless"};

std::string complaint(const RoutingPoint& point, const KeyModelDefinition& model) {
    try {
        validate(point, model);
    } catch (const InputError& error) {
        return error.what();
    }
    return "";
}

TEST(KeyModelTest, NamesAndNumbersGoTogether) {
    EXPECT_THAT(key_model_names(), ElementsAre("gaussian", "gaussian-fixed", "sphere", "vector", "text"));
    for (const std::string& name : key_model_names()) {
        EXPECT_EQ(to_string(parse_model(name)), name);
        EXPECT_EQ(definition_of(parse_model(name)).name, name);
    }
}

/// Such a model must give missing values, never the law of another, for every scorer that looks at keys.
TEST(KeyModelTest, AModelWithoutALawHasNoExactProbability) {
    RoutingPoint point;
    EXPECT_EQ(complaint(point, lawless), "");
    EXPECT_THAT(block_score_trouble(point, lawless), HasSubstr("model = lawless"));
    for (const char* scorer : {"mean", "quest", "max", "submean-4"}) {
        point.scorer = parse_scorer(scorer);
        EXPECT_EQ(complaint(point, lawless), "");
        EXPECT_NE(exact_trouble(point, lawless), "") << scorer;
    }
}

TEST(KeyModelTest, WhatAModelDoesNotDeclareItDoesNotTake) {
    EXPECT_THAT(complaint({.mu_noise = 0.1}, lawless),
                AllOf(HasSubstr("mu_noise = 0.1"), HasSubstr("model gaussian or gaussian-fixed")));
    EXPECT_THAT(complaint({.key_correlation = 0.1}, lawless),
                AllOf(HasSubstr("key_correlation = 0.1"), HasSubstr("model lawless has none")));
    EXPECT_THAT(complaint({.key_conv = 2}, lawless),
                AllOf(HasSubstr("key_conv = 2"), HasSubstr("use key_conv = 0, or model sphere or vector")));
}

/// No two models share a set of laws, so that none has another's unless its own file says so.
/// sphere and vector have the same keys, hence the same laws; no other two models have.
TEST(KeyModelTest, OnlyModelsOfTheSameKeysShareLaws) {
    std::map<const BlockScoreLaws*, std::vector<std::string>> models;
    for (const std::string& name : key_model_names()) {
        models[definition_of(parse_model(name)).laws].push_back(name);
    }
    EXPECT_EQ(models.size(), key_model_names().size() - 1);
    EXPECT_EQ(models[nullptr], (std::vector<std::string>{"text"})) << "which has no exact law";
    EXPECT_EQ(models[definition_of(parse_model("sphere")).laws], (std::vector<std::string>{"sphere", "vector"}));
}

TEST(KeyModelTest, OnlyWhereTheClusterIsFixedAFullBlockHasAFixedScore) {
    RoutingPoint point{.block_size = 4, .cluster_size = 4};
    for (const std::string& name : key_model_names()) {
        point.model = parse_model(name);
        if (!has_block_score_laws(point)) continue;
        EXPECT_EQ(signal_is_fixed(point), name != "gaussian") << name;
    }
}

/// The laws of single blocks are of q . mean: another scorer must not be given them.
TEST(KeyModelTest, LawsOfBlockScoresAreOfScorerMean) {
    RoutingPoint point;
    EXPECT_TRUE(has_block_score_laws(point));
    for (const char* scorer : {"quest", "max", "submean-4", "random"}) {
        point.scorer = parse_scorer(scorer);
        EXPECT_FALSE(has_block_score_laws(point)) << scorer;
        EXPECT_THROW(top_k_problem(point), InputError);
        EXPECT_THROW(normal_signal(point), InputError);
        EXPECT_THROW(signal_is_fixed(point), InputError);
        EXPECT_THROW(noise_at_fixed_signal(point), InputError);
    }
}

}  // namespace
}  // namespace mobalab::analysis
