#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "experiments/bench/bench.h"
#include "experiments/bench/cuda_bench_tensors.h"

namespace mobalab::experiments {
namespace {

using kernels::Operation;

/// Dense 16-bit products with fp32 sums that a multiprocessor does in a cycle; unknown where no source says it.
double flops_a_cycle(int major, int minor) {
    // 4 tensor cores x 512 multiply-adds (NVIDIA H100 Tensor Core GPU Architecture, 2022: 989.4 TFLOP/s with 132
    // multiprocessors at 1830 MHz); x 256 (NVIDIA A100 Tensor Core GPU Architecture, 2020: 312 with 108 at 1410).
    if (major == 9 && minor == 0) return 4096.0;
    if (major == 8 && minor == 0) return 2048.0;
    return BenchCase::unknown;
}

struct Peak {
    std::string text;
    double flops = BenchCase::unknown;
};

Peak tensor_core_peak() {
    int device = 0, major = 0, minor = 0;
    int processors = 0;
    int kilohertz = 0;
    check_cuda(cudaGetDevice(&device), "current device");
    check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "compute capability");
    check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "compute capability");
    if (std::isnan(flops_a_cycle(major, minor))) return {};
    check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "multiprocessors");
    check_cuda(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, device), "clock rate");
    const double flops = flops_a_cycle(major, minor) * processors * kilohertz * 1e3;
    return {fmt::format("16-bit tensor cores of {}: {:.0f} TFLOP/s ({} multiprocessors at {} MHz)", device_name(device),
                        flops * 1e-12, processors, kilohertz / 1000),
            flops};
}

bool offered(Operation operation, const BenchShape& shape, const std::string& name,
             std::vector<std::string>& left_out) {
    const kernels::Status status = kernels::supported(operation, problem_of(shape), kernels::Backend::cuda);
    if (!status.ok()) {
        left_out.push_back(fmt::format("{}: {}", name, status.message));
    }
    return status.ok();
}

}  // namespace

std::vector<BenchCase> cuda_kernel_cases(const BenchShape& shape, std::vector<std::string>& left_out) {
    const bool has_backward = offered(Operation::attention_backward, shape, "attention backward", left_out);
    const std::string conv_backward = fmt::format("key convolution backward, width {}", bench_conv_width);
    const bool has_conv_backward = offered(Operation::key_conv_backward, shape, conv_backward, left_out);
    const auto t = std::make_shared<CudaBenchTensors>(shape, has_backward || has_conv_backward);
    {
        const DeviceMemory scores(t->selection_bytes);
        t->compute_all(scores.as<float>(), has_backward);
        check_cuda_bench(*t, scores, has_backward);
    }

    const Peak peak = tensor_core_peak();
    std::vector<BenchCase> cases;
    const auto add = [&](std::string name, void (CudaBenchTensors::*run)(CudaBenchSet&), double flops, double bytes) {
        cases.push_back({.name = std::move(name),
                         .shape = shape,
                         .run = [t, run] { ((*t).*run)(t->next()); },
                         .flops = flops,
                         .bytes = bytes,
                         .peer = fmt::format("device copy of {} MiB", CudaBenchTensors::copy_bytes >> 20U),
                         .run_peer = [t] { t->copy(); },
                         .peer_bytes = 2.0 * static_cast<double>(CudaBenchTensors::copy_bytes),
                         .peak = peak.text,
                         .peak_flops = peak.flops,
                         .timer = [t](const std::function<void()>& call) { return t->seconds(call); }});
    };
    const auto tensor = static_cast<double>(t->tensor_bytes);
    const auto selection = static_cast<double>(t->selection_bytes);
    const double routed = 2.0 * routing_products(shape);
    const double attended = attention_products(shape);
    add("centroids", &CudaBenchTensors::pool, BenchCase::unknown, tensor);
    add("route, centroids included", &CudaBenchTensors::select, routed, 2.0 * tensor + selection);
    add("attention forward, lists included", &CudaBenchTensors::attend, 4.0 * attended, 4.0 * tensor + selection);
    add("whole forward", &CudaBenchTensors::forward, routed + 4.0 * attended, 4.0 * tensor + selection);
    if (has_backward) {
        add("attention backward", &CudaBenchTensors::backward, 10.0 * attended, 8.0 * tensor + selection);
    }
    add(fmt::format("key convolution, width {}", bench_conv_width), &CudaBenchTensors::conv_forward, BenchCase::unknown,
        2.0 * tensor);
    if (has_conv_backward) {
        add(conv_backward, &CudaBenchTensors::conv_backward, BenchCase::unknown, 3.0 * tensor);
    }
    return cases;
}

}  // namespace mobalab::experiments
