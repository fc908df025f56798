#pragma once

#include <functional>
#include <vector>

#include "experiments/cli/subcommand.h"
#include "kernels/kernels.h"

namespace mobalab::experiments {

/// What a command would have a backend do, by the dtype of its tensors.
struct DeviceDemand {
    kernels::Operation operation;
    std::function<std::vector<kernels::Problem>(kernels::DataType)> problems;
};

/// `arguments` with --device and --dtype replaced by what they stand for. Device `auto` is cuda where this build and
/// machine have it and it takes every problem, else cpu; which one and why goes to terminal.err. Dtype `auto` is bf16
/// on cuda and fp32 on cpu. Throws analysis::InputError where cuda was asked for and is absent or refuses a problem.
Arguments resolve_device(const Arguments& arguments, const DeviceDemand& demand, Terminal& terminal);

/// --dtype, where --device is cpu or cuda.
kernels::DataType dtype_of(const Arguments& arguments);

/// --device and --dtype.
std::vector<Flag> device_flags();

}  // namespace mobalab::experiments
