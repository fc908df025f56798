// Keys along a text as a source of probes: its tensors against the law of analysis/text_keys.h, and the CPU kernel
// against the simulation, which shares no code with it but the numbers of the law and text_query().
#include "experiments/probe/text_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <map>
#include <string>
#include <vector>

#include "analysis/agreement.h"
#include "experiments/probe/kernel_assessment.h"
#include "experiments/probe/probe_run.h"
#include "experiments/probe/text_tensors.h"
#include "experiments/simulation/simulated_points.h"
#include "tests/experiments/captured.h"
#include "tests/sim/statistics.h"

namespace mobalab::experiments {
namespace {

using analysis::Model;
using analysis::RoutingPoint;
using sim::testing::kFalseAlarm;
using sim::testing::kMaxZ;
using testing::AllOf;
using testing::HasSubstr;

RoutingPoint text_point() {
    return {.model = Model::text,
            .head_dim = 16,
            .block_size = 8,
            .candidates = 15,
            .topk = 4,
            .mu_signal = 0.5,
            .key_correlation = 0.6,
            .key_mean = 0.8,
            .query_mean = 0.3,
            .effective_dim = 7.0,
            .key_memory = 16,
            .sink = 30.0};
}

using Complex = std::complex<double>;

// Keys of one text without what RoPE and the mean add: x, [token][pair].
class Centred {
public:
    Centred(const analysis::TextKeys& keys, std::span<const float> tensor) : keys_(keys), tensor_(tensor) {}
    Complex at(std::int64_t token, std::size_t pair) const {
        const float* key = tensor_.data() + token * keys_.head_dim + 2 * static_cast<std::int64_t>(pair);
        const Complex turned =
            Complex(key[0], key[1]) * std::polar(1.0, -keys_.frequencies[pair] * static_cast<double>(token));
        return turned - keys_.mean_length * keys_.mean_part;
    }

private:
    const analysis::TextKeys& keys_;
    std::span<const float> tensor_;
};

// Largest |z| of means, variances and covariances at some lags of the keys drawn by `drawn` under the law of `judged`:
// over 4000 independent texts, each of which gives each of them once.
double largest_z(const analysis::TextKeys& drawn, const analysis::TextKeys& judged, std::uint64_t seed) {
    constexpr int texts = 4000;
    constexpr std::int64_t tokens = 24;
    const std::vector<std::int64_t> lags = {0, 1, 5, 20};
    std::map<std::pair<std::size_t, std::int64_t>, double> products;
    std::map<std::size_t, double> sums;
    for (int text = 0; text < texts; ++text) {
        const std::vector<float> tensor =
            draw_text_keys(drawn, tokens, sim::stream_key(seed, 1), static_cast<std::uint64_t>(text));
        const Centred x(judged, tensor);
        for (std::size_t pair = 0; pair < judged.pairs(); ++pair) {
            sums[pair] += x.at(3, pair).real();
            for (const std::int64_t lag : lags) {
                products[{pair, lag}] += x.at(3, pair).real() * x.at(3 + lag, pair).real();
            }
        }
    }
    double largest = 0.0;
    for (std::size_t pair = 0; pair < judged.pairs(); ++pair) {
        const double variance = judged.variances[pair];
        largest = std::max(largest, std::abs(sums[pair]) / std::sqrt(texts * variance));
        for (const std::int64_t lag : lags) {
            const double covariance = variance * judged.autocorrelation(lag);
            const double sd = std::sqrt(variance * variance + covariance * covariance);  // Isserlis
            largest = std::max(largest, std::abs(products[{pair, lag}] - texts * covariance) / (sd * std::sqrt(texts)));
        }
    }
    return largest;
}

// 40 statistics of 4000 texts, each nearly normal: |z| beyond 7.2 has probability below 1e-9 for all together, the
// skewness of products included.
constexpr double bound = 7.2;

TEST(TextTensors, KeysHaveTheirMeanSpectrumAndMemory) {
    const std::uint64_t seed = sim::testing::test_seed();
    const analysis::TextKeys keys(text_point());
    EXPECT_LT(largest_z(keys, keys, seed), bound);
}

TEST(TextTensors, OtherMomentsAreFound) {
    const std::uint64_t seed = sim::testing::test_seed();
    const analysis::TextKeys keys(text_point());
    for (const auto& change : std::vector<void (*)(RoutingPoint&)>{
             [](auto& p) { p.key_memory = 4; }, [](auto& p) { p.key_correlation = 0.4; },
             [](auto& p) { p.effective_dim = 9.0; }, [](auto& p) { p.key_mean = 0.7; }}) {
        RoutingPoint other = text_point();
        change(other);
        EXPECT_GT(largest_z(analysis::TextKeys(other), keys, seed), bound) << analysis::canonical_text(other);
    }
}

TEST(TextTensors, TheSinkHasItsPair) {
    const analysis::TextKeys keys(text_point());
    const std::vector<float> tensor = draw_text_keys(keys, 3, sim::stream_key(1, 2), 0);
    for (std::size_t token = 0; token < 3; ++token) {
        EXPECT_EQ(tensor[16 * token + 14], token == 0 ? 30.0F : 0.0F);
        EXPECT_EQ(tensor[16 * token + 15], 0.0F);
    }
    std::vector<float> query(16);
    build_text_query(keys, {.needle = 1, .position = 9, .mu_signal = 0.5}, std::span(tensor).subspan(16, 16),
                     sim::stream_key(1, 3), 0, query);
    EXPECT_EQ(query[14], 0.25F);
    EXPECT_EQ(query[15], 0.0F);
}

TEST(TextTensors, QueriesHaveTheCosineWithTheirNeedle) {
    const analysis::TextKeys keys(text_point());
    const std::vector<float> tensor = draw_text_keys(keys, 50, sim::stream_key(1, 2), 0);
    const Centred x(keys, tensor);
    std::vector<float> query(16);
    for (std::int64_t needle = 0; needle < 50; ++needle) {
        build_text_query(keys,
                         {.needle = needle,
                          .position = 60,
                          .mu_signal = 0.5,
                          .query_mean = 0.3,
                          .noise = static_cast<std::uint64_t>(needle)},
                         std::span(tensor).subspan(static_cast<std::size_t>(16 * needle), 16), sim::stream_key(1, 3), 0,
                         query);
        double product = 0.0;
        double square = 0.0;
        double length = 0.0;
        for (std::size_t pair = 0; pair < keys.pairs(); ++pair) {
            const Complex turned =
                x.at(needle, pair) * std::polar(1.0, keys.frequencies[pair] * static_cast<double>(needle));
            product += turned.real() * query[2 * pair] + turned.imag() * query[2 * pair + 1];
            square += std::norm(turned);
            length += query[2 * pair] * query[2 * pair] + query[2 * pair + 1] * query[2 * pair + 1];
        }
        EXPECT_NEAR(product / std::sqrt(square), 0.5, 1e-5);
        EXPECT_NEAR(length, 1.0, 1e-5);
    }
}

ProbePlan plan_of(const RoutingPoint& point, std::int64_t trials, std::uint64_t seed) {
    return plan_probes({point}, {.trials = trials, .seed = seed});
}

TEST(TextSource, ProbesStandInTheLastBlockAtUniformPlaces) {
    RoutingPoint point = text_point();
    point.seq_len = 123;  // the last block of the sequence is not whole; that of the question is
    const ProbePlan plan = plan_of(point, 64000, 3);
    EXPECT_EQ(plan.jobs[0].shape.seq_len, 128);
    const TextSource source(plan.jobs[0]);
    std::vector<double> places(8, 0.0);
    for (std::int64_t set = 0; set < source.key_sets(); ++set) {
        const std::vector<QueryChunk> chunks = source.chunks(set);
        ASSERT_GE(chunks.front().start, 120);
        places[static_cast<std::size_t>(chunks.front().start - 120)] += 1.0;
        std::int64_t rows = 0;
        for (const QueryChunk& chunk : chunks) {
            EXPECT_GE(chunk.start, 120);
            EXPECT_LE(chunk.start + chunk.rows, 128);
            rows += chunk.rows;
        }
        EXPECT_EQ(rows, 64);
    }
    const double expected = static_cast<double>(source.key_sets()) / 8.0;
    for (const double place : places) {
        EXPECT_NEAR(place, expected, kMaxZ * std::sqrt(expected));
    }
}

// p-value of the kernel's probes of one point against the simulation of another, which differs in keys alone.
double kernel_against_simulation(const RoutingPoint& probed, const RoutingPoint& simulated, std::uint64_t seed) {
    const ProbePlan plan = plan_of(probed, 32768, seed);
    UnitJournal none(nullptr);
    const auto counts = run_probes(plan.jobs, *cpu_kernel(0), none, [](double, const std::string&) {});
    const KernelAssessment kernel = assess_kernel({probed}, plan, counts, 1);
    EXPECT_FALSE(kernel.points[0].count.has_theory);
    const std::vector<SimulatedMisses> own =
        simulate_points({simulated}, {.trials = 16384, .seed = seed}, none, 0, [](double, const std::string&) {});
    const analysis::Counts trials{.misses = static_cast<double>(own[0].misses),
                                  .trials = static_cast<double>(own[0].trials)};
    return analysis::compare_counts(kernel.points[0].buckets.back().count.test_counts(), trials).p_value;
}

TEST(TextSource, TheKernelMissesWhatTheSimulationMisses) {
    const std::uint64_t seed = sim::testing::test_seed();
    RoutingPoint point = text_point();
    for (const char* scorer : {"mean", "quest", "max", "submean-2"}) {
        point.scorer = analysis::parse_scorer(scorer);
        EXPECT_GT(kernel_against_simulation(point, point, seed), kFalseAlarm) << scorer;
    }
}

TEST(TextSource, KeysOfAnotherLawAreFound) {
    const std::uint64_t seed = sim::testing::test_seed();
    const RoutingPoint point = text_point();
    for (const auto& change :
         std::vector<void (*)(RoutingPoint&)>{[](auto& p) { p.key_memory = 1; }, [](auto& p) { p.key_mean = 0.0; },
                                              [](auto& p) { p.mu_signal = 0.4; }}) {
        RoutingPoint other = point;
        change(other);
        EXPECT_LT(kernel_against_simulation(point, other, seed), kFalseAlarm) << analysis::canonical_text(other);
    }
}

TEST(TextCommands, ValidateAgreesAndShowsTheApproximation) {
    const Captured run = run_captured(words(
        "validate --model text --head-dim 16 --block-size 8 --candidates 15 --topk 2,4 --mu-signal 0.5 --key-mean "
        "0.8 --query-mean 0.3 --effective-dim 7 --key-correlation 0.6 --key-memory 16 --sink 3 --probes 8192 "
        "--trials 4000 --scorer mean,quest"));
    EXPECT_EQ(run.code, exit_ok) << run.out << run.err;
    EXPECT_THAT(run.out, AllOf(HasSubstr("theory, simulation and kernel agree"), HasSubstr("approx_miss"),
                               HasSubstr("d_eff 7"), HasSubstr("rho 0.6")));
}

TEST(TextCommands, BadValuesGetOneLine) {
    const std::map<std::string, std::vector<std::string>> cases = {
        {"validate --model gaussian", {"model = gaussian", "nearest valid: sphere"}},
        {"route --model vector", {"model = vector", "sphere or text"}},
        {"validate --key-correlation 0.1", {"key-correlation = 0.1", "nearest valid: 0, or model text"}},
        {"route --model text --cluster-size 2", {"cluster_size = 2", "nearest valid value is 1"}},
        {"simulate --model text --sink -1", {"sink = -1", "nearest valid", "0"}},
        {"simulate --model text --key-mean nan", {"key-mean", "nan"}},
        {"simulate --model text --key-mean 1", {"key-mean = 1", "0.9999"}},
        {"simulate --model text --effective-dim 64", {"effective_dim = 64", "or 0 for 64"}},
        {"simulate --model text --key-memory 5 --key-correlation 0.5", {"key_memory = 5", "nearest valid value is 4"}},
        {"simulate --model text --method affinity", {"method = affinity", "use method vector"}},
        {"simulate --model text --needles 2", {"needles = 2", "nearest valid value is 1"}},
        {"theory --model sphere --sink 2", {"sink = 2", "model text"}},
        {"validate --model text --head-dim 7", {"head_dim = 7", "nearest valid value is 6"}}};
    for (const auto& [command, expected] : cases) {
        const Captured run = run_captured(words(command));
        EXPECT_EQ(run.code, exit_error) << command << run.out;
        EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
        for (const std::string& part : expected) {
            EXPECT_THAT(run.err, HasSubstr(part)) << command;
        }
    }
}

}  // namespace
}  // namespace mobalab::experiments
