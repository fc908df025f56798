#include "experiments/commands/rounding_report.h"

#include <fmt/format.h>

#include "experiments/base/parallel_for.h"
#include "experiments/base/values.h"
#include "experiments/points/rounding_columns.h"
#include "experiments/probe/rounding_probe.h"
#include "experiments/results/column_builder.h"

namespace mobalab::experiments {

using analysis::CentroidFormat;
using analysis::Interval;
using analysis::RoutingPoint;

std::vector<Column> measured_rounding_columns(const std::vector<RoutingPoint>& points, double shared_mean,
                                              std::uint64_t seed, int threads, double confidence) {
    const std::vector<double> means = {shared_mean};
    std::vector<Column> columns = rounding_columns(with_each_mean(points, means), means, thread_count(threads));
    const std::string definition =
        fmt::format("Korn-Graubard interval over {} key sets, confidence {}", rounding_key_sets, shortest(confidence));
    for (const CentroidFormat format : {CentroidFormat::bf16, CentroidFormat::fp16}) {
        std::vector<Interval> measured;
        for (const RoutingPoint& point : points) {
            measured.push_back(measure_rounding(point, shared_mean, format, seed, threads, confidence));
        }
        const std::string name = fmt::format("measured_{}", to_string(format));
        columns.push_back(make_column(measured, name,
                                      "share of rows that the CPU kernel changes with such centroids, beside fp32 ones",
                                      [](const Interval& row) { return row.value; }));
        columns.push_back(make_column(
            measured, name + "_low", "lower end of the interval of " + name,
            [](const Interval& row) { return row.low; }, definition));
        columns.push_back(make_column(
            measured, name + "_high", "upper end of the interval of " + name,
            [](const Interval& row) { return row.high; }, definition));
    }
    return columns;
}

std::vector<ShownColumn> measured_rounding_answers() {
    std::vector<ShownColumn> shown = rounding_answers();
    shown.push_back({"measured_bf16", "seen bf16"});
    shown.push_back({"measured_fp16", "seen fp16"});
    return shown;
}

}  // namespace mobalab::experiments
