#include "experiments/commands/device_choice.h"

#include <fmt/format.h>

#include <ostream>

#include "analysis/routing_point.h"
#include "experiments/probe/kernel_under_test.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;
using kernels::Backend;
using kernels::DataType;

Arguments on_device(const Arguments& arguments, const std::string& device) {
    const Arguments on = arguments.with("device", device);
    return on.with("dtype", std::string(to_string(dtype_of(on))));
}

// Why cuda cannot run this; empty when it can.
std::string trouble_with_cuda(DataType dtype, const DeviceDemand& demand) {
    if (dtype == DataType::fp32) {  // before the device: wrong on every machine
        return "dtype = fp32: the CUDA kernels take 16-bit tensors; nearest valid choice: --dtype bf16, or --device "
               "cpu";
    }
    if (const kernels::Status status = kernels::backend_available(Backend::cuda); !status.ok()) {
        return status.message;
    }
    for (const kernels::Problem& problem : demand.problems(dtype)) {
        if (const kernels::Status status = kernels::supported(demand.operation, problem, Backend::cuda); !status.ok()) {
            return status.message;
        }
    }
    return "";
}

}  // namespace

Arguments resolve_device(const Arguments& arguments, const DeviceDemand& demand, Terminal& terminal) {
    const std::string device = arguments.choice("device", {"cpu", "cuda", "auto"});
    if (device == "cpu") {
        return on_device(arguments, "cpu");
    }
    const Arguments on_cuda = on_device(arguments, "cuda");
    const std::string trouble = trouble_with_cuda(dtype_of(on_cuda), demand);
    if (device == "cuda" && !trouble.empty()) {
        throw InputError("device = cuda: " + trouble);
    }
    if (device == "auto") {
        terminal.err << (trouble.empty()
                             ? fmt::format("mobalab: --device auto takes cuda ({})\n", cuda_kernel(1)->processor())
                             : fmt::format("mobalab: --device auto takes cpu ({})\n", trouble));
    }
    return trouble.empty() ? on_cuda : on_device(arguments, "cpu");
}

DataType dtype_of(const Arguments& arguments) {
    const std::string name = arguments.choice("dtype", {"fp32", "bf16", "fp16", "auto"});
    if (name == "auto") {
        return arguments.text("device") == "cuda" ? DataType::bf16 : DataType::fp32;
    }
    return name == "fp32" ? DataType::fp32 : name == "bf16" ? DataType::bf16 : DataType::fp16;
}

std::vector<Flag> device_flags() {
    return {{"device", "NAME", "cpu", "kernel to run: cpu, cuda, or auto (cuda where it can run all that is asked)"},
            {"dtype", "NAME", "auto", "type of the tensors: fp32, bf16, fp16; auto: fp32 on cpu, bf16 on cuda"}};
}

}  // namespace mobalab::experiments
