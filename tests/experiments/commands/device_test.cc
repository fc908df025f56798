// --device and --dtype on any machine; what needs a GPU is in cuda_probe_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "experiments/commands/device_choice.h"
#include "experiments/results/results_file.h"
#include "kernels/kernels.h"
#include "tests/experiments/captured.h"

namespace mobalab::experiments {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

bool has_cuda() {
    return kernels::backend_available(kernels::Backend::cuda).ok();
}

TEST(Device, CudaAskedForAndAbsentIsOneLineBeforeAnyWork) {
    if (has_cuda()) {
        GTEST_SKIP() << "this machine has a device";
    }
    for (const std::string command : {"route", "validate", "bench"}) {
        const TemporaryFolder folder;
        const Captured run = run_captured(words(command + " --device cuda --out " + (folder / "x.h5")));
        EXPECT_EQ(run.code, exit_error);
        EXPECT_THAT(run.err, testing::StartsWith("mobalab " + command + ": error: device = cuda: backend cuda: "));
        EXPECT_THAT(run.err, HasSubstr("nearest valid choice: cpu"));
        EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
        EXPECT_EQ(run.out, "");
        EXPECT_EQ(folder.listing(), "");
    }
}

TEST(Device, AutoFallsBackAndSaysSo) {
    if (has_cuda()) {
        GTEST_SKIP() << "this machine has a device";
    }
    const TemporaryFolder folder;
    const Captured run = run_captured(words("route --device auto --probes 256 --out " + (folder / "r.h5")));
    ASSERT_EQ(run.code, exit_ok) << run.err;
    EXPECT_THAT(run.err, HasSubstr("mobalab: --device auto takes cpu (backend cuda: "));
    EXPECT_THAT(run.out, HasSubstr("cpu fp32 kernel"));
    const Results results = read_results(folder / "r.h5");
    EXPECT_THAT(results.settings, AllOf(HasSubstr("device=cpu"), HasSubstr("dtype=fp32")));
    EXPECT_THAT(results.device, testing::StartsWith("cpu ("));
    EXPECT_THAT(run_captured(words("route --device auto --dtype bf16 --probes 256")).out, HasSubstr("cpu bf16 kernel"));
}

TEST(Device, CudaDoesNotTakeFp32) {
    for (const std::string command : {"route", "validate", "bench"}) {
        const Captured run = run_captured(words(command + " --device cuda --dtype fp32"));
        EXPECT_EQ(run.code, exit_error);
        EXPECT_EQ(run.err, "mobalab " + command +
                               ": error: device = cuda: dtype = fp32: the CUDA kernels take 16-bit tensors; nearest "
                               "valid choice: --dtype bf16, or --device cpu\n");
    }
    const Captured run = run_captured(words("route --device auto --dtype fp32 --probes 256"));
    EXPECT_EQ(run.code, exit_ok);
    EXPECT_THAT(run.err, AllOf(HasSubstr("takes cpu"), HasSubstr("dtype = fp32")));
}

TEST(Device, DtypeFollowsTheDevice) {
    const auto dtype = [](const std::string& device, const std::string& name) {
        return dtype_of(Arguments({{"device", {device, true}}, {"dtype", {name, false}}}, ""));
    };
    EXPECT_EQ(dtype("cpu", "auto"), kernels::DataType::fp32);
    EXPECT_EQ(dtype("cuda", "auto"), kernels::DataType::bf16);
    EXPECT_EQ(dtype("cuda", "fp16"), kernels::DataType::fp16);
    EXPECT_EQ(dtype("cpu", "bf16"), kernels::DataType::bf16);
    EXPECT_THAT(run_captured(words("route --probes 256")).err, Not(HasSubstr("takes")));  // cpu is the default
}

}  // namespace
}  // namespace mobalab::experiments
