#pragma once

#include <string>
#include <vector>

namespace mobalab::experiments {

/// One CUDA device of this machine.
struct CudaDevice {
    std::string name;
    int major = 0;  ///< compute capability
    int minor = 0;
    double memory_gib = 0.0;
    std::string trouble;  ///< why this build's kernels do not run on it; empty: a kernel ran
};

/// What CUDA sees.
struct CudaInfo {
    bool built = false;   ///< this program was built with nvcc
    std::string trouble;  ///< why there is no device; empty when there is one
    std::vector<CudaDevice> devices;
};

/// Looks for devices and runs a one-thread kernel on each.
CudaInfo cuda_info();

}  // namespace mobalab::experiments
