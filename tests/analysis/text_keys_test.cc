#include "analysis/text_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "analysis/hit_probability.h"
#include "analysis/hit_problem.h"
#include "analysis/scorer_approximation.h"
#include "analysis/text_block_scores.h"
#include "analysis/text_draws.h"

namespace mobalab::analysis {
namespace {

using Complex = std::complex<double>;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

/// Every ingredient, at a size for sums over all pairs of tokens.
const RoutingPoint small{.model = Model::text,
                         .head_dim = 10,
                         .block_size = 6,
                         .candidates = 5,
                         .topk = 3,
                         .mu_signal = 0.6,
                         .key_correlation = 0.5,
                         .key_mean = 0.8,
                         .query_mean = -0.3,
                         .effective_dim = 4.0,
                         .key_memory = 16,
                         .sink = 3.0};

std::string complaint(const RoutingPoint& point) {
    try {
        validate(point);
    } catch (const InputError& error) {
        return error.what();
    }
    return "";
}

RoutingPoint with(RoutingPoint point, void (*change)(RoutingPoint&)) {
    change(point);
    return point;
}

double dot(const std::vector<Complex>& a, const std::vector<Complex>& b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += (std::conj(a[i]) * b[i]).real();
    return sum;
}

TEST(TextKeysTest, EveryRuleNamesValueAndNearestChoice) {
    struct Case {
        void (*spoil)(RoutingPoint&);
        std::string value, nearest;
    };
    EXPECT_EQ(complaint(small), "");
    const std::vector<Case> cases{
        {[](auto& p) { p.head_dim = 9; }, "head_dim = 9", "nearest valid value is 8"},
        {[](auto& p) { p.head_dim = 4, p.effective_dim = 0; }, "head_dim = 4", "nearest valid value is 6"},
        {[](auto& p) { p.head_dim = 2, p.sink = 0, p.effective_dim = 0; }, "head_dim = 2", "nearest valid value is 4"},
        {[](auto& p) { p.cluster_size = 2; }, "cluster_size = 2", "nearest valid value is 1"},
        {[](auto& p) { p.needles = 2; }, "needles = 2", "nearest valid value is 1"},
        {[](auto& p) { p.key_conv = 2; }, "key_conv = 2", "use key_conv = 0"},
        {[](auto& p) { p.mu_noise = 0.1; }, "mu_noise = 0.1", "use mu_noise = 0"},
        {[](auto& p) { p.key_mean = 1.0; }, "key_mean = 1", "nearest valid value is 0.9999"},
        {[](auto& p) { p.key_mean = -0.1; }, "key_mean = -0.1", "nearest valid value is 0"},
        {[](auto& p) { p.key_mean = nan_value; }, "key_mean = nan", "nearest valid value is 0"},
        {[](auto& p) { p.query_mean = 1.5; }, "query_mean = 1.5", "nearest valid value is 1"},
        {[](auto& p) { p.effective_dim = 1.9; }, "effective_dim = 1.9", "nearest valid value is 2"},
        {[](auto& p) { p.effective_dim = 8.0; }, "effective_dim = 8", "or 0 for 8; nearest valid value is 0"},
        {[](auto& p) { p.effective_dim = nan_value; }, "effective_dim = nan", "nearest valid value is 0"},
        {[](auto& p) { p.key_memory = 0; }, "key_memory = 0", "nearest valid value is 1"},
        {[](auto& p) { p.key_memory = 100; }, "key_memory = 100", "nearest valid value is 64"},
        {[](auto& p) { p.key_memory = 200'000; }, "key_memory = 200000", "nearest valid value is 65536"},
        {[](auto& p) { p.key_correlation = 0.0; }, "key_memory = 16", "nearest valid value is 0"},
        {[](auto& p) { p.sink = -1.0; }, "sink = -1", "nearest valid value is 0"},
        {[](auto& p) { p.model = Model::sphere; }, "sink = 3", "use sink = 0, or model text"},
        {[](auto& p) { p.model = Model::vector; }, "key_memory = 16", "use key_memory = 0, or model text"},
        {[](auto& p) { p.model = Model::gaussian; }, "key_mean = 0.8", "use key_mean = 0, or model text"},
        {[](auto& p) { p.model = Model::gaussian_fixed; }, "query_mean = -0.3", "use query_mean = 0, or model text"},
    };
    for (const Case& c : cases) {
        EXPECT_THAT(complaint(with(small, c.spoil)), AllOf(HasSubstr(c.value), HasSubstr(c.nearest)));
    }
}

TEST(TextKeysTest, OnlyWhatIsNotPlainIsInTheCanonicalText) {
    EXPECT_EQ(canonical_text({.model = Model::text}),
              "block_size=64;candidates=127;cluster_size=1;head_dim=64;model=text;mu_cluster=0;mu_noise=0;"
              "mu_signal=0.8;topk=8");
    EXPECT_EQ(canonical_text(small),
              "block_size=6;candidates=5;cluster_size=1;effective_dim=4;head_dim=10;key_correlation=0.5;key_mean=0.8;"
              "key_memory=16;model=text;mu_cluster=0;mu_noise=0;mu_signal=0.6;query_mean=-0.3;sink=3;topk=3");
}

TEST(TextKeysTest, TheSpectrumHasTheEffectiveDimension) {
    for (const std::size_t pairs : {2U, 3U, 32U, 512U}) {
        for (const double share : {0.01, 0.1, 0.5, 0.9, 1.0}) {
            const double wanted = 2.0 + share * (2.0 * static_cast<double>(pairs) - 2.0);
            const std::vector<double> shares = power_spectrum(pairs, wanted);
            double sum = 0.0;
            double squares = 0.0;
            for (std::size_t i = 0; i < pairs; ++i) {
                sum += 2.0 * shares[i];
                squares += 2.0 * shares[i] * shares[i];
                EXPECT_GE(shares[i], shares[i > 0 ? i - 1 : 0]) << "the slowest pair has most";
            }
            EXPECT_NEAR(sum, 1.0, 1e-12);
            EXPECT_NEAR(1.0 / squares, wanted, 1e-9 * wanted);
        }
    }
    EXPECT_EQ(power_spectrum(4, 0.0), std::vector<double>(4, 0.125));
    EXPECT_NEAR(power_spectrum(4, 2.0)[3], 0.5, 1e-15);
}

TEST(TextKeysTest, TheAutocorrelationIsTheMixture) {
    const TextKeys keys(small);
    EXPECT_DOUBLE_EQ(keys.autocorrelation(0), 1.0);
    for (const std::int64_t lag : {1, 2, 5, 100}) {
        const auto l = static_cast<double>(lag);
        const double expected = 0.5 / 3.0 * (std::exp(-l) + std::exp(-l / 4.0) + std::exp(-l / 16.0));
        EXPECT_NEAR(keys.autocorrelation(lag), expected, 1e-15);
        EXPECT_EQ(keys.autocorrelation(-lag), keys.autocorrelation(lag));
    }
    EXPECT_EQ(TextKeys({.model = Model::text}).autocorrelation(1), 0.0);
}

/// The query is built so that these hold for every needle, to the last bits.
TEST(TextKeysTest, TheQueryHasTheStatedCosines) {
    const TextKeys keys(small);
    std::mt19937_64 words(1);
    std::normal_distribution<double> normal;
    for (int i = 0; i < 100; ++i) {
        std::vector<Complex> needle(keys.pairs());
        std::vector<Complex> noise(keys.pairs());
        for (std::size_t pair = 0; pair < keys.pairs(); ++pair) {
            needle[pair] = {normal(words), normal(words)};
            noise[pair] = {normal(words), normal(words)};
        }
        const std::vector<Complex> query = text_query(keys, needle, noise, 0.6, -0.3);
        const std::vector<Complex> mean(keys.pairs(), keys.mean_part);
        const double length = std::sqrt(dot(needle, needle));
        const double along = dot(mean, needle) / length;  // of the mean, along the needle
        EXPECT_NEAR(dot(mean, mean), 1.0, 1e-12);
        EXPECT_NEAR(dot(query, query), 1.0, 1e-12);
        EXPECT_NEAR(dot(query, needle) / length, 0.6, 1e-12);
        EXPECT_NEAR(dot(query, mean), 0.6 * along - 0.3 * 0.8 * std::sqrt(1.0 - along * along), 1e-12);
    }
}

/// Over 4096 draws, moments of needles and cosines of queries to a percent; the caller's own numbers fill (0, 1).
TEST(TextDrawsTest, HaveTheLaw) {
    const TextKeys keys(small);
    TextDraws draws(small, 2);
    constexpr int count = 4096;
    std::vector<double> variances(keys.pairs(), 0.0);
    double uniform = 0.0;
    double square = 0.0;
    for (int i = 0; i < count; ++i) {
        draws.next();
        uniform += draws.uniform() / count;
        const double normal = draws.normal();
        square += normal * normal / count;
        for (std::size_t pair = 0; pair < keys.pairs(); ++pair) {
            variances[pair] += 0.5 * std::norm(draws.needle()[pair]) / count;
        }
        ASSERT_NEAR(dot(draws.query(), draws.query()), 1.0, 1e-12);
        ASSERT_NEAR(dot(draws.query(), draws.needle()) / std::sqrt(dot(draws.needle(), draws.needle())), 0.6, 1e-12);
    }
    EXPECT_NEAR(uniform, 0.5, 0.001);
    EXPECT_NEAR(square, 1.0, 0.01);
    for (std::size_t pair = 0; pair < keys.pairs(); ++pair) {
        EXPECT_NEAR(variances[pair], keys.variances[pair], 0.02 * keys.variances[pair]);
    }
}

/// Sums over all pairs of tokens, of the law of all tokens given the needle's.
NormalScore summed(const RoutingPoint& point, const TextPlaces& places, const std::vector<Complex>& needle,
                   const std::vector<Complex>& query, std::int64_t block) {
    const TextKeys keys(point);
    double mean = block == 0 ? keys.sink * keys.query_sink : 0.0;
    double variance = 0.0;
    const auto size = point.block_size;
    const auto C = [&](std::int64_t a, std::int64_t b) { return keys.autocorrelation(a - b); };
    for (std::int64_t t = block * size; t < (block + 1) * size; ++t) {
        for (std::size_t i = 0; i < keys.pairs(); ++i) {
            const auto turned = [&](std::int64_t by) {
                return std::polar(1.0, keys.frequencies[i] * static_cast<double>(by));
            };
            const Complex expected = keys.mean_length * keys.mean_part * turned(t - places.query) +
                                     C(t, places.needle) * needle[i] * turned(t - places.needle);
            mean += (std::conj(query[i]) * expected).real();
            for (std::int64_t s = block * size; s < (block + 1) * size; ++s) {
                const double covariance = C(t, s) - C(t, places.needle) * C(s, places.needle);
                variance += keys.variances[i] * std::norm(query[i]) * covariance * turned(t - s).real();
            }
        }
    }
    const auto B = static_cast<double>(size);
    return {mean / B, std::sqrt(std::max(0.0, variance)) / B};
}

TEST(TextBlockScoresTest, ClosedSumsAreThePlainSums) {
    for (const auto& change : std::vector<void (*)(RoutingPoint&)>{
             [](auto&) {}, [](auto& p) { p.block_size = 1, p.candidates = 7; },
             [](auto& p) { p.key_correlation = 0.0, p.key_memory = 0; }, [](auto& p) { p.key_correlation = 1.0; },
             [](auto& p) { p.sink = 0.0, p.key_mean = 0.0; }, [](auto& p) { p.key_memory = 1; }}) {
        const RoutingPoint point = with(small, change);
        ASSERT_EQ(complaint(point), "");
        const TextKeys keys(point);
        std::vector<Complex> needle;
        std::vector<Complex> query;
        for (std::size_t i = 0; i < keys.pairs(); ++i) {
            needle.emplace_back(0.3 - 0.1 * static_cast<double>(i), 0.2 + 0.05 * static_cast<double>(i));
            query.emplace_back(0.1 * static_cast<double>(i), 0.4 - 0.2 * static_cast<double>(i));
        }
        const TextBlockScores law(keys, point.block_size, point.candidates);
        const std::int64_t tokens = point.block_size * point.candidates;
        for (const std::int64_t at : {std::int64_t{0}, tokens / 2, tokens - 1}) {
            const TextPlaces places{.needle = at, .query = tokens + point.block_size / 2};
            const std::vector<NormalScore> scores = law.given(places, needle, query);
            ASSERT_EQ(std::ssize(scores), point.candidates);
            for (std::int64_t block = 0; block < point.candidates; ++block) {
                const NormalScore expected = summed(point, places, needle, query, block);
                const NormalScore& score = scores[static_cast<std::size_t>(block)];
                EXPECT_NEAR(score.mean, expected.mean, 1e-11);
                EXPECT_NEAR(score.sd, expected.sd, 1e-7);
            }
        }
    }
}

/// With all ingredients off the keys are N(0, I/d), independent: model gaussian-fixed, but for the length of the
/// needle's key, |x| = sqrt(chi^2_d / d), that mu multiplies.
TEST(TextBlockScoresTest, PlainKeysHaveTheGaussianLaw) {
    for (const RoutingPoint& plain :
         {RoutingPoint{.model = Model::text, .head_dim = 64, .block_size = 16, .candidates = 63, .mu_signal = 0.6},
          RoutingPoint{
              .model = Model::text, .head_dim = 32, .block_size = 4, .candidates = 200, .topk = 4, .mu_signal = 0.7}}) {
        const auto d = static_cast<double>(plain.head_dim);
        double miss = 0.0;
        double weight = 0.0;
        for (double r = 0.5; r <= 1.0 / plain.mu_signal; r += 0.01) {
            RoutingPoint point = plain;
            point.model = Model::gaussian_fixed;
            point.mu_signal = plain.mu_signal * r;
            const double density = std::exp((d - 1.0) * std::log(r) - 0.5 * d * (r * r - 1.0));
            miss += density * exact_hit_probability(point).miss();
            weight += density;
        }
        EXPECT_FALSE(has_exact_probability(plain));
        ASSERT_TRUE(has_approximation(plain));
        EXPECT_NEAR(approximate_hit_probability(plain).miss(), miss / weight, 0.005);
    }
}

TEST(TextBlockScoresTest, TheApproximationIsOfScorerMeanAndOfSizesItCanDo) {
    RoutingPoint point = small;
    EXPECT_TRUE(has_approximation(point));
    point.scorer = parse_scorer("quest");
    EXPECT_FALSE(has_approximation(point)) << "quest's is of unit keys";
    EXPECT_THROW(approximate_hit_probability(point), InputError);
    point.scorer = {};
    point.candidates = 8193;
    EXPECT_FALSE(has_approximation(point));
    EXPECT_THROW(approximate_hit_probability(point), InputError);
    point.candidates = 5;
    point.topk = 1;
    EXPECT_EQ(approximate_hit_probability(point).miss(), 1.0);
    point.topk = 6;
    EXPECT_EQ(approximate_hit_probability(point).miss(), 0.0);
}

}  // namespace
}  // namespace mobalab::analysis
