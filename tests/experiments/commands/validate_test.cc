// `mobalab validate` and `mobalab route` in this process: right routers agree, wrong ones are caught.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "analysis/hit_probability.h"
#include "experiments/base/interrupt.h"
#include "experiments/commands/comparisons.h"
#include "experiments/commands/probe_commands.h"
#include "experiments/commands/subcommands.h"
#include "experiments/results/results_file.h"
#include "tests/experiments/captured.h"
#include "tests/experiments/probe/plain_router.h"
#include "tests/sim/statistics.h"

namespace mobalab::experiments {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Captured validate_with(const KernelUnderTest& kernel, const std::string& flags) {
    std::ostringstream out;
    std::ostringstream err;
    Terminal terminal{out, err};
    const int code = run_validate(parse_arguments(validate_command(), words(flags)), terminal, kernel);
    return {code, out.str(), err.str()};
}

// Two kinds of needle, three topk's; hit probabilities from 0.06 to 0.99. Needs no more than a second.
const std::string small_grid =
    "--head-dim 32 --block-size 16 --seq-len 1000 --topk 1,2,4 --cluster-size 1,3 --mu-signal 0.8 --mu-cluster 0.2 "
    "--probes 8192 --trials 4000 --seed 20";

// The probes a variance off by 5 % needs: it moves the miss probability by 0.008, eleven standard errors (measured).
const std::string power_grid =
    "--head-dim 32 --block-size 16 --seq-len 1K --topk 4 --mu-signal 0.9 --trials 4000 --probes 400000";

TEST(Validate, TheCpuKernelAgrees) {
    for (const std::string dtype : {"fp32", "bf16", "fp16"}) {
        const Captured run = validate_with(*cpu_kernel(2), small_grid + " --dtype " + dtype);
        EXPECT_EQ(run.code, exit_ok) << run.out;
        EXPECT_THAT(run.out, HasSubstr("theory, simulation and kernel agree"));
    }
}

// Scorers with a law (random, submean) are held against it, the others kernel against simulation.
TEST(Validate, TheCpuKernelAgreesUnderEveryScorer) {
    const Captured run = validate_with(*cpu_kernel(2),
                                       "--head-dim 32 --block-size 16 --seq-len 1000 --topk 2,4 --mu-signal 0.8 "
                                       "--scorer mean,quest,max,submean-4,random "
                                       "--probes 8192 --trials 4000 --seed 20");
    EXPECT_EQ(run.code, exit_ok) << run.out;
    EXPECT_THAT(run.out, AllOf(HasSubstr("theory, simulation and kernel agree"), HasSubstr("submean-4")));
}

// Routers that answer for another scorer than the one asked for.
TEST(Validate, AnotherScorersSelectionIsCaught) {
    class Other : public KernelUnderTest {
    public:
        explicit Other(kernels::ScorerKind kind) : kind_(kind) {}
        std::string device() const override { return "cpu"; }
        int parallel_key_sets() const override { return 2; }
        std::unique_ptr<LoadedKeys> load(const ProbeShape& shape, std::span<const float> keys) const override {
            ProbeShape other = shape;
            other.scorer = {.kind = kind_, .sub_blocks = 1, .seed = 3};
            return cpu_->load(other, keys);
        }

    private:
        kernels::ScorerKind kind_;
        std::unique_ptr<KernelUnderTest> cpu_ = cpu_kernel(2);
    };
    const std::string flags =
        "--head-dim 32 --block-size 16 --seq-len 1K --topk 4 --mu-signal 0.9 --trials 20000 --probes 40000 --scorer ";
    using kernels::ScorerKind;
    for (const auto& [asked, given] : std::map<std::string, ScorerKind>{{"mean", ScorerKind::quest},
                                                                        {"quest", ScorerKind::max},
                                                                        {"max", ScorerKind::random},
                                                                        {"submean-4", ScorerKind::mean},
                                                                        {"random", ScorerKind::mean}}) {
        const Captured run = validate_with(Other(given), flags + asked);
        EXPECT_EQ(run.code, exit_disagree) << asked << "\n" << run.out;
        EXPECT_THAT(run.out, HasSubstr("DISAGREEMENT"));
        EXPECT_EQ(run.out.find("--scorer " + asked) != std::string::npos, asked != "mean") << run.out;
    }
}

TEST(Validate, ARightRouterOfAnotherMakeAgrees) {
    const Captured run = validate_with(PlainRouter(), small_grid);
    EXPECT_EQ(run.code, exit_ok) << run.out;
    const Captured with_power = validate_with(PlainRouter(), power_grid);
    EXPECT_EQ(with_power.code, exit_ok) << with_power.out;
}

TEST(Validate, AVarianceOffByFivePercentIsCaught) {
    const Captured run = validate_with(PlainRouter({.noise_variance = 1.05}), power_grid);
    EXPECT_EQ(run.code, exit_disagree) << run.out;
    EXPECT_THAT(run.out, AllOf(HasSubstr("DISAGREEMENT"), HasSubstr("kernel-theory: "),
                               HasSubstr("mobalab validate --head-dim 32 --block-size 16 --seq-len 1024 --topk 4")));
    EXPECT_THAT(run.out, testing::Not(HasSubstr("-rule: ")));  // by statistics alone, not by an exact check
}

TEST(Validate, ATieRuleTurnedRoundIsCaught) {
    const Captured run = validate_with(PlainRouter({.lower_index_wins = true}), small_grid);
    EXPECT_EQ(run.code, exit_disagree) << run.out;
    EXPECT_THAT(run.out, AllOf(HasSubstr("tie-rule"), testing::Not(HasSubstr("candidate-rule:"))));
}

TEST(Validate, ACandidateRuleOffByOneIsCaughtBothWays) {
    for (const std::int64_t more : {1, -1}) {
        const Captured run = validate_with(PlainRouter({.more_candidates = more}), small_grid);
        EXPECT_EQ(run.code, exit_disagree) << run.out;
        EXPECT_THAT(run.out, HasSubstr("candidate-rule"));
    }
}

// Worth nothing if the small grid were so blind that anything passes: without the exact checks, statistics alone see
// one candidate less (the needle is then sometimes no candidate).
TEST(Validate, StatisticsAloneSeeAMissingCandidate) {
    const Captured run = validate_with(PlainRouter({.more_candidates = -1}), small_grid);
    EXPECT_THAT(run.out, HasSubstr("kernel-theory"));
}

const std::vector<std::string> validate_columns = {"model",
                                                   "head_dim",
                                                   "block_size",
                                                   "seq_len",
                                                   "candidates",
                                                   "topk",
                                                   "cluster_size",
                                                   "mu_signal",
                                                   "mu_noise",
                                                   "mu_cluster",
                                                   "delta_mu_eff",
                                                   "snr",
                                                   "pairwise_miss",
                                                   "reliable_snr",
                                                   "hit_probability",
                                                   "miss_probability",
                                                   "log_miss_probability",
                                                   "gaussian_miss_probability",
                                                   "gaussian_fixed_miss_probability",
                                                   "sim_trials",
                                                   "sim_misses",
                                                   "sim_miss",
                                                   "sim_miss_low",
                                                   "sim_miss_high",
                                                   "kernel_trials",
                                                   "kernel_misses",
                                                   "kernel_miss",
                                                   "kernel_miss_low",
                                                   "kernel_miss_high",
                                                   "kernel_expected_miss",
                                                   "kernel_key_sets",
                                                   "kernel_design_effect",
                                                   "adjusted_p"};

std::vector<std::string> names_of(const Table& table) {
    std::vector<std::string> names;
    for (const Column& column : table.columns) {
        names.push_back(column.name);
    }
    return names;
}

TEST(Validate, WritesItsThreeTables) {
    const TemporaryFolder folder;
    const std::string path = folder / "v.h5";
    ASSERT_EQ(validate_with(*cpu_kernel(2), small_grid + " --out " + path).code, exit_ok);
    const Results results = read_results(path);
    const Table& points = results.table("validate");
    EXPECT_EQ(names_of(points), validate_columns);
    EXPECT_EQ(points.rows(), 6U);

    const Table& buckets = results.table("validate_by_candidates");
    EXPECT_EQ(names_of(buckets),
              (std::vector<std::string>{"point", "candidates_low", "candidates_high", "kernel_trials", "kernel_misses",
                                        "kernel_miss", "kernel_miss_low", "kernel_miss_high", "kernel_expected_miss"}));
    EXPECT_EQ(buckets.dimension, "row");
    std::vector<std::int64_t> trials(points.rows());
    std::vector<std::int64_t> misses(points.rows());
    for (std::size_t i = 0; i < buckets.rows(); ++i) {
        const auto point = static_cast<std::size_t>(buckets.integers("point")[i]);
        trials[point] += buckets.integers("kernel_trials")[i];
        misses[point] += buckets.integers("kernel_misses")[i];
    }
    EXPECT_EQ(trials, points.integers("kernel_trials"));
    EXPECT_EQ(misses, points.integers("kernel_misses"));

    const Table& comparisons = results.table("validate_comparisons");
    EXPECT_EQ(names_of(comparisons), (std::vector<std::string>{"point", "kind", "expected_miss", "observed_miss", "z",
                                                               "p_value", "adjusted_p", "detectable_difference"}));
    EXPECT_EQ(comparisons.dimension, "comparison");
    EXPECT_EQ(std::get<double>(comparisons.attributes.at("family_alpha")), 1e-6);
    EXPECT_EQ(*results.seed, 20U);

    // topk 1 routes nothing: the needle is always lost, in all three.
    EXPECT_EQ(points.reals("miss_probability")[0], 1.0);
    EXPECT_EQ(points.reals("sim_miss")[0], 1.0);
    EXPECT_EQ(points.reals("kernel_miss")[0], 1.0);
}

// Ten questions, each at two topk's that see the same 120,000 trials, drawn as if every mu were off by `bias`: no
// kernel, no rules, only simulations.
std::vector<analysis::RoutingPoint> questions() {
    std::vector<analysis::RoutingPoint> points;
    for (const std::int64_t head_dim : {32, 64, 96, 128, 192}) {
        for (const std::int64_t block_size : {16, 64}) {
            for (const std::int64_t topk : {3, 9}) {
                points.push_back(
                    {.head_dim = head_dim, .block_size = block_size, .candidates = 64, .topk = topk, .mu_signal = 0.7});
            }
        }
    }
    return points;
}

std::vector<SimulatedMisses> drawn(std::vector<analysis::RoutingPoint> points, analysis::Model model, double bias,
                                   std::mt19937_64& random) {
    constexpr int trials = 120'000;
    std::vector<SimulatedMisses> result;
    for (std::size_t i = 0; i < points.size(); i += 2) {
        double miss[2];
        for (std::size_t j = 0; j < 2; ++j) {
            points[i + j].model = model;
            points[i + j].mu_signal += bias;
            miss[j] = analysis::exact_hit_probability(points[i + j]).miss();
        }
        // What is missed at topk 9 is missed at topk 3.
        const int both = std::binomial_distribution<int>(trials, miss[1])(random);
        const int more = std::binomial_distribution<int>(trials - both, (miss[0] - miss[1]) / (1.0 - miss[1]))(random);
        result.push_back({.trials = trials, .misses = static_cast<std::uint64_t>(both + more)});
        result.push_back({.trials = trials, .misses = static_cast<std::uint64_t>(both)});
    }
    return result;
}

std::vector<Comparison> compared_simulations(double bias, std::mt19937_64& random) {
    const std::vector<analysis::RoutingPoint> points = questions();
    const ProbePlan plan;
    ValidationEvidence evidence{.points = points, .plan = plan};
    evidence.kernel.points.resize(points.size());
    for (KernelAssessment::Point& point : evidence.kernel.points) {
        point.buckets.resize(1);
    }
    evidence.own = drawn(points, analysis::Model::sphere, bias, random);
    evidence.gaussian = drawn(points, analysis::Model::gaussian, bias, random);
    evidence.gaussian_fixed = drawn(points, analysis::Model::gaussian_fixed, bias, random);
    return compare(evidence, 2);
}

bool about_simulation_of_all(const Comparison& row) {
    return row.point < 0 && row.kind != "kernel-theory";
}

// A bias of 0.005 in mu at every point, which hardly a point alone shows, is found by all points together: z of 1e-6 in
// 84 comparisons is 5.9, and their misses move by more than eight standard errors (printed), so that one of the 30 is
// overlooked with probability below 0.02 and seven of them with probability below 1e-9.
TEST(Validate, ASmallBiasOfEverySimulationIsSeenByAllTogether) {
    const std::uint64_t seed = sim::testing::test_seed();
    std::mt19937_64 random(seed);
    int found = 0;
    int found_alone = 0;
    double z = 0.0;
    constexpr int repeats = 10;
    for (int repeat = 0; repeat < repeats; ++repeat) {
        for (const Comparison& row : compared_simulations(0.005, random)) {
            found += about_simulation_of_all(row) && row.adjusted_p < 1e-6 ? 1 : 0;
            z += about_simulation_of_all(row) ? row.agreement.z / (3.0 * repeats) : 0.0;
            found_alone += row.point >= 0 && row.adjusted_p < 1e-6 ? 1 : 0;
        }
    }
    std::cout << found << " of " << 3 * repeats << " found together, " << found_alone << " alone, mean z " << z << '\n';
    EXPECT_GE(found, 3 * repeats - 6);
    EXPECT_LT(found_alone, 60) << "of 600";
}

// Under the null, z of the comparison of all points has spread 1: the covariance of points that share trials is right
// (without it the spread is 1.2). Of 120 values it is outside [0.65, 1.4] with probability below 1e-9.
TEST(Validate, AllSimulationsTogetherAreCalibrated) {
    std::mt19937_64 random(sim::testing::test_seed());
    double square = 0.0;
    constexpr int repeats = 40;
    for (int repeat = 0; repeat < repeats; ++repeat) {
        for (const Comparison& row : compared_simulations(0.0, random)) {
            EXPECT_GE(row.adjusted_p, 1e-9) << row.kind;
            square += about_simulation_of_all(row) ? row.agreement.z * row.agreement.z : 0.0;
        }
    }
    const double spread = std::sqrt(square / (3 * repeats));
    std::cout << "spread of z " << spread << '\n';
    EXPECT_GT(spread, 0.65);
    EXPECT_LT(spread, 1.4);
}

TEST(Validate, PowerIsStated) {
    // z of a two-sided 0.05 is 1.96, of 0.9 one-sided 1.2816.
    EXPECT_NEAR(detectable_difference(0.01, 1, 0.05), 0.01 * (1.959964 + 1.281552), 1e-7);
    EXPECT_NEAR(detectable_difference(0.01, 50, 0.05), 0.01 * (3.290527 + 1.281552), 1e-7);
    const Captured run = validate_with(*cpu_kernel(2), small_grid);
    EXPECT_THAT(run.out, HasSubstr("found with probability 0.9 at that error: a mean miss probability off by "));
}

// Fails when the n-th key set is loaded, like a machine that goes away.
class DyingKernel : public KernelUnderTest {
public:
    explicit DyingKernel(int loads) : left_(loads) {}
    std::string device() const override { return kernel_->device(); }
    int parallel_key_sets() const override { return 1; }
    std::unique_ptr<LoadedKeys> load(const ProbeShape& shape, std::span<const float> keys) const override {
        if (left_-- <= 0) {
            throw Interrupted("gone");
        }
        return kernel_->load(shape, keys);
    }
    bool unused() const { return left_ > 0; }

private:
    std::unique_ptr<KernelUnderTest> kernel_ = cpu_kernel(1);
    mutable std::atomic<int> left_;
};

TEST(Validate, ResumesToTheSameBytes) {
    const TemporaryFolder folder;
    ::setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
    // The two runs must have the same command line to have the same bytes.
    const std::string flags = small_grid + " --out " + (folder / "v.h5");
    ASSERT_EQ(validate_with(*cpu_kernel(1), flags).code, exit_ok);
    const std::string whole = slurp(folder / "v.h5");
    std::filesystem::remove(folder / "v.h5");

    EXPECT_THROW(validate_with(DyingKernel(20), flags), Interrupted);
    EXPECT_THROW(validate_with(*cpu_kernel(1), flags), FileError);  // the journal is not to be lost by accident
    // 2 loads for the exact checks, 16 of the 32 key sets are in the journal.
    const DyingKernel rest(2 + 16 + 1);
    ASSERT_EQ(validate_with(rest, flags + " --resume").code, exit_ok);
    EXPECT_TRUE(rest.unused());
    EXPECT_EQ(slurp(folder / "v.h5"), whole);
    ::unsetenv("SOURCE_DATE_EPOCH");

    const Captured again = validate_with(DyingKernel(0), flags + " --resume");  // nothing left to do
    EXPECT_EQ(again.code, exit_ok);
    EXPECT_THAT(again.out, HasSubstr("agree"));
    EXPECT_THROW(validate_with(*cpu_kernel(1), flags + " --resume --alpha 1e-5"), FileError);  // another task
}

TEST(Validate, PrintsJsonWithTheVerdictOnTheOtherStream) {
    const Captured run = validate_with(*cpu_kernel(2), small_grid + " --json");
    const nlohmann::json rows = nlohmann::json::parse(run.out);
    ASSERT_EQ(rows.size(), 6U);
    EXPECT_TRUE(rows[1].contains("kernel_expected_miss"));
    EXPECT_GT(rows[1].at("adjusted_p").get<double>(), 1e-6);
    EXPECT_THAT(run.err, HasSubstr("agree"));
}

TEST(Route, CountsWhatTheExactProbabilityExpects) {
    const Captured run =
        run_captured(words("route --head-dim 32 --block-size 16 --seq-len 1000 --topk 2,4 --mu-signal 0.9 "
                           "--probes 8192 --confidence 0.999999999 --json"));
    ASSERT_EQ(run.code, exit_ok) << run.err;
    const nlohmann::json rows = nlohmann::json::parse(run.out);
    ASSERT_EQ(rows.size(), 2U);
    for (const nlohmann::json& row : rows) {  // false alarm 1e-9 each
        EXPECT_GE(row.at("trials").get<int>(), 8192);
        EXPECT_LE(row.at("low").get<double>(), row.at("expected_miss").get<double>());
        EXPECT_GE(row.at("high").get<double>(), row.at("expected_miss").get<double>());
        EXPECT_EQ(row.at("seed").get<int>(), 1);
    }
    EXPECT_GT(rows[0].at("misses").get<int>(), rows[1].at("misses").get<int>());
}

TEST(Route, ShowsATableAndWritesAFile) {
    const TemporaryFolder folder;
    const std::string flags =
        "route --head-dim 16 --block-size 8 --candidates 20 --topk 2 --probes 512 --out " + (folder / "r.h5");
    const Captured run = run_captured(words(flags));
    ASSERT_EQ(run.code, exit_ok) << run.err;
    EXPECT_THAT(run.out, AllOf(HasSubstr("expected_miss"), HasSubstr("cpu fp32 kernel")));
    const Table table = read_results(folder / "r.h5").table("route");
    EXPECT_EQ(table.integers("candidates")[0], 20);
    EXPECT_GE(table.integers("trials")[0], 512);
    EXPECT_EQ(run_captured(words(flags)).code, exit_error);  // never overwritten
    EXPECT_EQ(run_captured(words(flags + " --resume")).code, exit_ok);
}

TEST(Route, RefusesMistakesInOneLine) {
    const auto error_of = [](const std::string& flags) {
        const Captured run = run_captured(words(flags));
        EXPECT_EQ(run.code, exit_error) << flags;
        return run.err;
    };
    EXPECT_THAT(error_of("route --device tpu"), HasSubstr("device = tpu"));
    EXPECT_THAT(error_of("route --dtype fp8"), HasSubstr("dtype = fp8"));
    EXPECT_THAT(error_of("route --topk 513 --block-size 16"), HasSubstr("nearest valid: 512"));
    EXPECT_THAT(error_of("route --probes 1"), HasSubstr("probes = 1"));
    EXPECT_THAT(error_of("route --probes 100 --key-sets 60"), HasSubstr("key-sets = 60"));
    EXPECT_THAT(error_of("validate --alpha 0"), HasSubstr("alpha = 0"));
    EXPECT_THAT(error_of("validate --model gaussian"), HasSubstr("model"));
    EXPECT_THAT(error_of("validate --resume"), HasSubstr("--out"));
}

}  // namespace
}  // namespace mobalab::experiments
