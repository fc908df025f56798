// The needle probe through the CUDA kernel; skipped with a message where there is no device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "experiments/base/build_info.h"
#include "experiments/commands/probe_commands.h"
#include "experiments/commands/subcommands.h"
#include "experiments/probe/probe_run.h"
#include "experiments/probe/routing_rules.h"
#include "experiments/results/results_file.h"
#include "sim/streams/gaussian.h"
#include "tests/experiments/captured.h"
#include "tests/experiments/probe/selection_difference.h"

namespace mobalab::experiments {
namespace {

using kernels::DataType;
using testing::AllOf;
using testing::HasSubstr;

class CudaProbe : public testing::Test {
protected:
    void SetUp() override {
        if (const kernels::Status status = kernels::backend_available(kernels::Backend::cuda); !status.ok()) {
            GTEST_SKIP() << status.message;
        }
    }
};

ProbeJob job_of(const ProbeShape& shape, std::int64_t topk) {
    return {.shape = shape,
            .budget = split_probes(shape, 32768, 0),
            .seed = 11,
            .kinds = {{.mu_signal = 0.7, .mu_cluster = 0.0, .cluster_size = 1, .topks = {topk}}}};
}

// What a results file of simulate says it was drawn on.
TEST_F(CudaProbe, ASimulationRecordsItsDevices) {
    const TemporaryFolder folder;
    const std::string gpu = "cuda (" + cuda_kernel(1)->processor() + ")";
    const auto device = [&](const std::string& flags) {
        const Captured run = run_captured(
            words("simulate --trials 2000 --candidates 40 --force --out " + (folder / "a.h5") + " " + flags));
        EXPECT_EQ(run.code, 0) << run.err;
        return read_results(folder / "a.h5").device;
    };
    EXPECT_EQ(device("--device cuda"), gpu);
    EXPECT_EQ(device("--device cpu"), cpu_name());
    // A normal model has no CUDA kernel, so auto draws it on the CPU.
    EXPECT_EQ(device("--device auto --model sphere,gaussian"), gpu + ", cpu (" + cpu_name() + ")");
}

// Every block size and head width, whole and partial last blocks, sequences over several slices of keys.
std::vector<ProbeShape> shapes(DataType dtype) {
    std::vector<ProbeShape> all;
    for (const std::int64_t block : {16, 32, 64, 128, 256, 512}) {
        for (const std::int64_t d : {32, 64, 96, 128, 256}) {
            all.push_back({.head_dim = d, .block_size = block, .seq_len = 9000 + block, .dtype = dtype});
        }
    }
    all.push_back({.head_dim = 80, .block_size = 64, .seq_len = 9000, .dtype = dtype});
    all.push_back({.head_dim = 64, .block_size = 48, .seq_len = 9000, .dtype = dtype});
    all.push_back({.head_dim = 128, .block_size = 4096, .seq_len = 70000, .dtype = dtype});
    all.push_back({.head_dim = 128, .block_size = 16, .seq_len = 131072, .dtype = dtype});
    all.push_back({.head_dim = 256, .block_size = 512, .seq_len = 100001, .dtype = dtype});
    return all;
}

// Rows whose choices differ at all are near ties (see gap_bound); measured: fewer than one in a thousand, 1 in 50 would
// be another router.
TEST_F(CudaProbe, RoutesLikeTheCpuKernel) {
    const auto cuda = cuda_kernel(1);
    const auto cpu = cpu_kernel(1);
    for (const DataType dtype : {DataType::bf16, DataType::fp16}) {
        SelectionDifference total;
        for (const ProbeShape& shape : shapes(dtype)) {
            const SelectionDifference seen = difference_of(job_of(shape, 8), 0, *cuda, *cpu);
            EXPECT_LE(seen.worst_gap, gap_bound(shape)) << canonical_text(shape);
            total.rows += seen.rows;
            total.differing_rows += seen.differing_rows;
        }
        EXPECT_GT(total.rows, 5000);
        EXPECT_LE(total.differing_rows, total.rows / 50);
        std::printf("%s: %ld of %ld rows differ\n", std::string(to_string(dtype)).c_str(), total.differing_rows,
                    total.rows);
    }
}

// Tensors drawn on the device by cuRAND are those of the host: the same kernel chooses the same blocks of them.
TEST_F(CudaProbe, DrawsTheTensorsOfTheHost) {
    const auto cuda = cuda_kernel(1);
    const NeedleKind cluster{.mu_signal = 0.9, .mu_cluster = 0.25, .cluster_size = 3, .topks = {8}};
    std::int64_t infeasible = 0;
    for (const DataType dtype : {DataType::bf16, DataType::fp16}) {
        for (const ProbeShape& shape : shapes(dtype)) {
            ProbeJob job = job_of(shape, 8);
            job.kinds.push_back(cluster);
            const std::vector<QueryChunk> chunks = chunks_of_key_set(job, 5);
            const auto drawn = cuda->draw(shape, keys_of_set(shape, job.seed, 5));
            const auto other = cuda->draw(shape, keys_of_set(shape, job.seed, 6));
            const std::vector<float> keys = draw_keys(shape, job.seed, 5);
            const auto loaded = cuda->load(shape, keys);
            for (const NeedleKind& kind : job.kinds) {
                const HostQueries built(job, kind, 5);
                std::vector<std::int32_t> expected(built.feasible.size() * 7, -2);
                std::vector<std::int32_t> seen = expected;
                std::vector<std::uint8_t> feasible(built.feasible.size(), 2);
                loaded->route(chunks, built.queries, 8, expected);
                drawn->route_needles(chunks, built.recipe, 8, seen, feasible);
                EXPECT_EQ(seen, expected) << canonical_text(shape);
                EXPECT_EQ(feasible, built.feasible) << canonical_text(shape);
                infeasible += std::count(feasible.begin(), feasible.end(), 0);
                other->route_needles(chunks, built.recipe, 8, seen, feasible);
                EXPECT_NE(seen, expected) << canonical_text(shape);
            }
        }
    }
    EXPECT_GT(infeasible, 100);
}

TEST_F(CudaProbe, KeepsTheRulesOfRouting) {
    const auto kernel = cuda_kernel(1);
    for (const DataType dtype : {DataType::bf16, DataType::fp16}) {
        for (const ProbeShape& shape : shapes(dtype)) {
            for (const std::int64_t topk : {2, 8, 40}) {
                EXPECT_EQ(check_tie_rule(shape, topk, *kernel).violations, 0) << canonical_text(shape) << " k " << topk;
                EXPECT_EQ(check_candidate_rule(shape, topk, *kernel).violations, 0)
                    << canonical_text(shape) << " k " << topk;
            }
        }
    }
}

std::vector<JobCounts> counts_with(const KernelUnderTest& kernel, const ProbePlan& plan) {
    UnitJournal none(nullptr);
    return run_probes(plan.jobs, kernel, none, [](double, const std::string&) {});
}

TEST_F(CudaProbe, CountsDoNotDependOnTheKeySetsInFlight) {
    std::vector<analysis::RoutingPoint> points;
    for (const std::int64_t block : {16, 128}) {
        for (const std::int64_t seq_len : {4096, 30000}) {
            points.push_back({.head_dim = 64, .block_size = block, .topk = 4, .mu_signal = 0.7, .seq_len = seq_len});
            points.back().candidates = analysis::candidates_of_last_query(seq_len, block);
        }
    }
    const ProbePlan plan = plan_probes(points, {.dtype = DataType::bf16, .seed = 3});
    const std::vector<JobCounts> one = counts_with(*cuda_kernel(1), plan);
    EXPECT_EQ(counts_with(*cuda_kernel(8), plan), one);
    EXPECT_EQ(counts_with(*cuda_kernel(8), plan), one);
    EXPECT_NE(counts_with(*cuda_kernel(8), plan_probes(points, {.dtype = DataType::bf16, .seed = 4})), one);
}

const std::string grid =
    "--device cuda --head-dim 32,128 --block-size 16,128 --seq-len 4000,32K --topk 1,2,8 --cluster-size 1,3 "
    "--mu-signal 0.8 --mu-cluster 0.2 --probes 8192 --trials 2000 --seed 20";

TEST_F(CudaProbe, ValidateAgrees) {
    for (const std::string dtype : {"bf16", "fp16"}) {
        const Captured run = run_captured(words("validate " + grid + " --dtype " + dtype));
        EXPECT_EQ(run.code, exit_ok) << run.out << run.err;
        EXPECT_THAT(run.out, HasSubstr("theory, simulation and kernel agree"));
    }
}

TEST_F(CudaProbe, AutoTakesItAndTheFileSaysSo) {
    const TemporaryFolder folder;
    const Captured run = run_captured(words("route --device auto --probes 2048 --out " + (folder / "r.h5")));
    ASSERT_EQ(run.code, exit_ok) << run.err;
    EXPECT_THAT(run.err, HasSubstr("takes cuda"));
    EXPECT_THAT(run.out, HasSubstr("cuda bf16 kernel"));
    const Results results = read_results(folder / "r.h5");
    EXPECT_THAT(results.device, testing::StartsWith("cuda (NVIDIA"));
    EXPECT_THAT(results.settings, AllOf(HasSubstr("device=cuda"), HasSubstr("dtype=bf16")));

    const Captured odd = run_captured(words("route --device auto --head-dim 84 --probes 256"));
    EXPECT_EQ(odd.code, exit_ok);
    EXPECT_THAT(odd.err, AllOf(HasSubstr("takes cpu"), HasSubstr("head_dim = 84")));
    EXPECT_THAT(odd.out, HasSubstr("cpu fp32 kernel"));
}

TEST_F(CudaProbe, RefusesShapesItCannotRun) {
    const Captured run = run_captured(words("validate --device cuda --head-dim 84"));
    EXPECT_EQ(run.code, exit_error);
    EXPECT_EQ(run.err,
              "mobalab validate: error: device = cuda: head_dim = 84: backend cuda supports multiples of 8 up to "
              "256; nearest valid choice: 88\n");
    EXPECT_EQ(run_captured(words("route --device cuda --head-dim 264")).code, exit_error);
}

// The CUDA kernel over keys with 5 % more variance than it is told: what validate must notice.
class NoisyKeys : public KernelUnderTest {
public:
    std::string device() const override { return kernel_->device(); }
    int parallel_key_sets() const override { return kernel_->parallel_key_sets(); }
    std::unique_ptr<LoadedKeys> load(const ProbeShape& shape, std::span<const float> keys) const override {
        std::vector<float> noisy(keys.size());
        sim::fill_gaussian(noisy, {}, 7);
        const auto spread = static_cast<float>(std::sqrt(0.05 / static_cast<double>(shape.head_dim)));
        for (std::size_t i = 0; i < noisy.size(); ++i) {
            noisy[i] = keys[i] + spread * noisy[i];
        }
        return kernel_->load(shape, noisy);  // the kernel keeps centroids, not keys
    }

private:
    std::unique_ptr<KernelUnderTest> kernel_ = cuda_kernel(2);
};

TEST_F(CudaProbe, AVarianceOffByFivePercentIsCaught) {
    const std::string power =
        "--device cuda --head-dim 32 --block-size 16 --seq-len 1K --topk 4 --mu-signal 0.9 --trials 4000 --probes "
        "400000";
    const auto code_of = [&](const KernelUnderTest& kernel) {
        std::ostringstream out;
        std::ostringstream err;
        Terminal terminal{out, err};
        return run_validate(parse_arguments(validate_command(), words(power)), terminal, kernel);
    };
    EXPECT_EQ(code_of(*cuda_kernel(2)), exit_ok);
    EXPECT_EQ(code_of(NoisyKeys()), exit_disagree);
}

}  // namespace
}  // namespace mobalab::experiments
