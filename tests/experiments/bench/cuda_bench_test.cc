// `mobalab bench` on the GPU; skipped with a message where there is no device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "experiments/bench/cuda_bench_tensors.h"
#include "tests/experiments/captured.h"

namespace mobalab::experiments {
namespace {

class CudaBench : public testing::Test {
protected:
    void SetUp() override {
        if (const kernels::Status status = kernels::backend_available(kernels::Backend::cuda); !status.ok()) {
            GTEST_SKIP() << status.message;
        }
    }
};

BenchShape small_shape() {
    return {.batch = 2,
            .heads = 3,
            .head_dim = 64,
            .block_size = 32,
            .seq_len = 1000,
            .topk = 4,
            .dtype = kernels::DataType::bf16,
            .threads = 2};
}

bool has_backward() {
    return kernels::supported(kernels::Operation::attention_backward, problem_of(small_shape()), kernels::Backend::cuda)
        .ok();
}

TEST_F(CudaBench, MeasuresEveryRowAgainstTheDevice) {
    for (const std::string shape : {"--head-dim 32 --block-size 16 --seq-len 256 --topk 4",
                                    "--head-dim 128 --block-size 128 --seq-len 3001 --dtype fp16"}) {
        const Captured run = run_captured(words("bench --device cuda --heads 2 --repeats 3 --json " + shape));
        ASSERT_EQ(run.code, exit_ok) << run.err;
        const nlohmann::json rows = nlohmann::json::parse(run.out);
        ASSERT_GE(rows.size(), 5U);
        for (const nlohmann::json& row : rows) {
            const std::string name = row.at("name");
            EXPECT_GT(row.at("seconds_low").get<double>(), 0.0) << name;
            EXPECT_GT(row.at("ratio_to_peer").get<double>(), 0.0) << name;
            EXPECT_THAT(row.at("peer").get<std::string>(), testing::StartsWith("device copy"));
            EXPECT_EQ(row.at("heads").get<int>(), 2);
            EXPECT_EQ(row.at("batch").get<int>(), 2);  // of the device, where not given
            EXPECT_EQ(row.at("share_of_peak").is_number(), row.at("gflops").is_number()) << name;
        }
        EXPECT_EQ(run.err.find("left out: attention backward") == std::string::npos, has_backward());
    }
}

// What is timed is right, and something wrong would not be timed: the last row of each result is in the sample.
TEST_F(CudaBench, WrongResultsAreNotTimed) {
    CudaBenchTensors tensors(small_shape(), true);
    const DeviceMemory scores(tensors.selection_bytes);
    tensors.compute_all(scores.as<float>(), has_backward());
    EXPECT_NO_THROW(check_cuda_bench(tensors, scores, has_backward()));

    const CudaBenchSet& set = tensors.first();
    std::vector<std::pair<const char*, const DeviceMemory*>> results = {
        {"output", &set.out}, {"lse", &set.lse}, {"selected", &set.selection}, {"score", &scores}};
    if (has_backward()) {
        results.insert(results.end(), {{"dq", &tensors.dq}, {"dk", &tensors.dk}, {"dv", &tensors.dv}});
    }
    for (const auto& [name, memory] : results) {
        // A whole row of the widest result; 0x3f3f is 0.75 in bf16 and in fp32, 0x3f3f3f3f no block's number.
        const std::size_t bytes = 512;
        std::byte* end = memory->as<std::byte>() + memory->bytes() - bytes;
        std::vector<std::byte> kept(bytes);
        ASSERT_EQ(cudaMemcpy(kept.data(), end, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
        ASSERT_EQ(cudaMemset(end, 0x3f, bytes), cudaSuccess);
        EXPECT_THROW(check_cuda_bench(tensors, scores, has_backward()), std::exception) << name;
        ASSERT_EQ(cudaMemcpy(end, kept.data(), bytes, cudaMemcpyHostToDevice), cudaSuccess);
    }
    EXPECT_NO_THROW(check_cuda_bench(tensors, scores, has_backward()));
}

}  // namespace
}  // namespace mobalab::experiments
