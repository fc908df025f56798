#include "experiments/commands/meter_choice.h"

#include <fmt/format.h>

#include <ostream>
#include <string>
#include <utility>

#include "analysis/routing_point.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

/// Why a meter cannot measure the plan; empty: it can.
std::string trouble_with(const HeadMeter& meter, const MeasurePlan& plan) {
    for (const TracePlan& of_trace : plan.traces) {
        std::string trouble = meter.trouble(of_trace.settings, of_trace.dtype, of_trace.trace.info().head_dim);
        if (!trouble.empty()) {
            return trouble;
        }
    }
    return "";
}

}  // namespace

std::unique_ptr<HeadMeter> chosen_meter(const Arguments& arguments, const MeasurePlan& plan, Terminal& terminal) {
    const int threads = worker_threads(arguments);
    const std::string device = arguments.choice("device", {"cpu", "cuda", "auto"});
    if (device == "cpu") {
        return cpu_head_meter(threads);
    }
    std::unique_ptr<HeadMeter> meter;
    std::string trouble = kernels::backend_available(kernels::Backend::cuda).message;
    if (trouble.empty()) {
        meter = cuda_head_meter();
        trouble = trouble_with(*meter, plan);
    }
    if (device == "cuda" && !trouble.empty()) {
        throw InputError("device = cuda: " + trouble);
    }
    if (device == "auto") {
        terminal.err << (trouble.empty() ? fmt::format("mobalab: --device auto takes cuda ({})\n", meter->processor())
                                         : fmt::format("mobalab: --device auto takes cpu ({})\n", trouble));
    }
    return trouble.empty() ? std::move(meter) : cpu_head_meter(threads);
}

}  // namespace mobalab::experiments
