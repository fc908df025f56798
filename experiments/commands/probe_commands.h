#pragma once

#include "experiments/cli/subcommand.h"
#include "experiments/probe/kernel_under_test.h"

namespace mobalab::experiments {

/// `mobalab route` and `mobalab validate` on any kernel; the commands themselves take the one --device names.
int run_route(const Arguments& arguments, Terminal& terminal, const KernelUnderTest& kernel);
int run_validate(const Arguments& arguments, Terminal& terminal, const KernelUnderTest& kernel);

}  // namespace mobalab::experiments
