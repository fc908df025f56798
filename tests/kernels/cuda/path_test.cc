// Which kernels a device runs, from its compute capability and the environment; no device is needed.
#include "kernels/cuda/host/path.h"

#include <gtest/gtest.h>

#include <string>

namespace mobalab::kernels::cuda {
namespace {

Device device(int major, int minor) {
    Device device;
    device.index = 3;
    device.major = major;
    device.minor = minor;
    return device;
}

PathOptions options(const char* path, const char* shared_memory = nullptr, const char* forward = nullptr) {
    PathOptions options;
    const Status s = read_path_options(path, shared_memory, forward, options);
    EXPECT_TRUE(s.ok()) << s.message;
    return options;
}

void expect_path(const PathOptions& options, const Device& device, bool has_hopper_code, CudaPath wanted) {
    CudaPath path{};
    const Status s = choose_path(options, device, has_hopper_code, path);
    ASSERT_TRUE(s.ok()) << s.message;
    EXPECT_EQ(path, wanted) << device.major << "." << device.minor;
}

void expect_refused(const Status& status, StatusCode code, const std::string& start, const std::string& within,
                    const std::string& nearest) {
    EXPECT_EQ(status.code, code) << status.message;
    EXPECT_EQ(status.message.rfind(start, 0), 0u) << status.message;
    EXPECT_NE(status.message.find(within), std::string::npos) << status.message;
    const std::string end = "nearest valid choice: " + nearest;
    ASSERT_GE(status.message.size(), end.size()) << status.message;
    EXPECT_EQ(status.message.substr(status.message.size() - end.size()), end);
    EXPECT_EQ(status.message.find('\n'), std::string::npos);
}

TEST(CudaPath, HopperOn90AndPortableElsewhere) {
    for (const char* name : {static_cast<const char*>(nullptr), "", "auto"}) {
        expect_path(options(name), device(9, 0), true, CudaPath::hopper);
        expect_path(options(name), device(9, 0), false, CudaPath::portable);
        for (const auto& [major, minor] : {std::pair{8, 0}, {8, 6}, {8, 7}, {8, 9}, {9, 1}, {10, 0}, {12, 0}}) {
            expect_path(options(name), device(major, minor), true, CudaPath::portable);
        }
    }
}

TEST(CudaPath, PortableRunsOnEveryDeviceFrom80On) {
    for (const auto& [major, minor] : {std::pair{8, 0}, {8, 6}, {9, 0}, {12, 1}}) {
        for (const bool built : {false, true}) {
            expect_path(options("portable"), device(major, minor), built, CudaPath::portable);
        }
    }
    for (const char* name : {"auto", "hopper", "portable"}) {
        CudaPath path{};
        expect_refused(choose_path(options(name), device(7, 5), true, path), StatusCode::unsupported_device,
                       "backend cuda: device 3 has compute capability 7.5", "8.0 or later", "cpu");
    }
}

TEST(CudaPath, HopperIsRefusedWhereItsKernelsCannotRun) {
    CudaPath path{};
    expect_path(options("hopper"), device(9, 0), true, CudaPath::hopper);
    expect_refused(choose_path(options("hopper"), device(8, 9), true, path), StatusCode::unsupported_device,
                   "MOBALAB_CUDA_PATH = hopper: ", "device 3 has compute capability 8.9", "portable");
    expect_refused(choose_path(options("hopper"), device(10, 0), true, path), StatusCode::unsupported_device,
                   "MOBALAB_CUDA_PATH = hopper: ", "device 3 has compute capability 10.0", "portable");
    expect_refused(choose_path(options("hopper"), device(9, 0), false, path), StatusCode::unsupported_device,
                   "MOBALAB_CUDA_PATH = hopper: ", "MOBALAB_CUDA_ARCHITECTURES", "portable");
}

TEST(CudaPath, ASmallSharedMemoryIsForThePortablePath) {
    CudaPath path{};
    expect_path(options(nullptr, "101376"), device(9, 0), true, CudaPath::portable);
    expect_path(options("auto", "232447"), device(9, 0), true, CudaPath::portable);
    expect_path(options("auto", "232448"), device(9, 0), true, CudaPath::hopper);
    expect_path(options("portable", "101376"), device(9, 0), true, CudaPath::portable);
    expect_refused(choose_path(options("hopper", "101376"), device(9, 0), true, path), StatusCode::unsupported_device,
                   "MOBALAB_CUDA_PATH = hopper: ", "232448 bytes of shared memory", "portable");
    EXPECT_EQ(options(nullptr, "101376").shared_memory, 101376);
    EXPECT_FALSE(options(nullptr, "").shared_memory.has_value());
}

TEST(CudaPath, TheForwardAlgorithmIsNoneOrTheOneAskedFor) {
    for (const char* name : {static_cast<const char*>(nullptr), "", "auto"}) {
        EXPECT_FALSE(options(nullptr, nullptr, name).forward.has_value());
    }
    EXPECT_EQ(options(nullptr, nullptr, "lists").forward, ForwardAlgorithm::lists);
    EXPECT_EQ(options("hopper", "232448", "queries").forward, ForwardAlgorithm::queries);
}

TEST(CudaPath, OptionsThatMeanNothingAreRefused) {
    PathOptions read;
    for (const std::string name : {"Hopper", "sm_80", "portable ", "0"}) {
        expect_refused(read_path_options(name.c_str(), nullptr, nullptr, read), StatusCode::invalid_argument,
                       "MOBALAB_CUDA_PATH = " + name + ": ", "auto, hopper or portable", "auto");
    }
    for (const std::string bytes : {"101375", "0", "-1", "99KB", "1e6", " 101376", "99999999999999999999"}) {
        expect_refused(read_path_options(nullptr, bytes.c_str(), nullptr, read), StatusCode::invalid_argument,
                       "MOBALAB_CUDA_SHARED_MEMORY = " + bytes + ": ", "at least 101376", "101376");
    }
    for (const std::string name : {"List", "query", "dense", "queries ", "1"}) {
        expect_refused(read_path_options(nullptr, nullptr, name.c_str(), read), StatusCode::invalid_argument,
                       "MOBALAB_CUDA_FORWARD = " + name + ": ", "auto, lists or queries", "auto");
    }
}

}  // namespace
}  // namespace mobalab::kernels::cuda
