#include "experiments/simulation/simulation_plan.h"

#include <fmt/format.h>

#include "experiments/base/values.h"
#include "experiments/results/results_file.h"
#include "sim/cuda/engine.h"

namespace mobalab::experiments {

using analysis::RoutingPoint;

sim::Budget SimulationPlan::budget_of(std::size_t index) const {
    sim::Budget of_point = budget;
    of_point.method = choices[index].method;
    if (any_device && sim::cuda::kernel_trouble(points[index], choices[index].method).empty()) {
        of_point.device = sim::Device::cuda;
    }
    return of_point;
}

std::string SimulationPlan::canonical_text() const {
    const sim::StopRule& stop = budget.stop;
    std::string text = fmt::format(
        "simulate\nschema={}\nseed={}\ntrials={}\nmax_misses={}\ntarget_relative_error={}\nmax_seconds={}\nconfidence={"
        "}\n",
        results_schema_version, budget.seed, stop.max_trials, stop.max_misses, shortest(stop.target_relative_error),
        shortest(stop.max_seconds), shortest(confidence));
    text += grid_text;
    for (std::size_t i = 0; i < points.size(); ++i) {
        text += fmt::format("{};seq_len={};method={}\n", analysis::canonical_text(points[i]), points[i].seq_len,
                            to_string(choices[i].method));
    }
    return text;
}

void choose_methods(SimulationPlan& plan, const std::string& method) {
    const sim::StopRule& stop = plan.budget.stop;
    plan.choices.clear();
    for (const RoutingPoint& point : plan.points) {
        if (method != "auto") {
            plan.choices.push_back({sim::parse_method(method), "asked for"});
            sim::check_method(point, plan.choices.back().method);
        } else {
            const double target = stop.max_misses > 0 ? 0.0 : stop.target_relative_error;
            plan.choices.push_back(sim::choose_method(point, target, static_cast<double>(stop.max_trials)));
        }
        if (plan.choices.back().method == sim::Method::conditional && stop.max_misses > 0) {
            throw analysis::InputError(
                "max-misses: method conditional counts no misses; use --target-relative-error, or --method threshold");
        }
    }
}

void choose_device(SimulationPlan& plan, const std::string& device) {
    const std::string trouble = device == "cpu" ? "" : sim::cuda::device_trouble();
    plan.any_device = device == "auto" && trouble.empty();
    if (device != "cuda") {
        return;
    }
    if (!trouble.empty()) {
        throw analysis::InputError(fmt::format("device = cuda: {}; use cpu", trouble));
    }
    for (std::size_t i = 0; i < plan.points.size(); ++i) {
        const sim::Method method = plan.choices[i].method;
        const std::string no_kernel =
            sim::counts_trials(method) ? sim::cuda::kernel_trouble(plan.points[i], method) : "";
        if (!no_kernel.empty()) {
            throw analysis::InputError("device = cuda: " + no_kernel);
        }
    }
    plan.budget.device = sim::Device::cuda;
}

}  // namespace mobalab::experiments
