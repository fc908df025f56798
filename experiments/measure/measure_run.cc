#include "experiments/measure/measure_run.h"

#include <fmt/format.h>

#include <optional>
#include <tuple>

#include "experiments/base/values.h"
#include "experiments/measure/measured_record.h"

namespace mobalab::experiments {
namespace {

std::string contents_of(const HeadRows& rows) {
    return task_id({reinterpret_cast<const char*>(rows.bytes.data()), rows.bytes.size()});
}

/// Of the keys and values of a unit.
std::string key_contents_of(const Trace& trace, std::int64_t layer, std::int64_t key_head) {
    std::string text = contents_of(trace.keys(layer, key_head));
    if (trace.has_values()) {
        text += contents_of(trace.values(layer, key_head));
    }
    return text;
}

/// What every unit is and reads. Query heads of a key head follow one another: its keys are read once for them.
std::string identity_of_units(const MeasurePlan& plan) {
    std::string text;
    std::optional<std::tuple<std::size_t, std::int64_t, std::int64_t>> before;
    for (const MeasureUnit& unit : plan.units) {
        const Trace& trace = plan.traces[unit.trace].trace;
        const std::int64_t key_head = unit.head / (trace.info().query_heads / trace.info().key_heads);
        if (const std::tuple keys(unit.trace, unit.layer, key_head); before != keys) {
            text += key_contents_of(trace, unit.layer, key_head) + "\n";
            before = keys;
        }
        text += fmt::format("{} {} {} {}\n", unit.trace, unit.layer, unit.head,
                            contents_of(trace.queries(unit.layer, unit.head)));
    }
    return text;
}

std::string identity_of(const TracePlan& plan) {
    const Trace& trace = plan.trace;
    std::string text = fmt::format("dtype={}\n", to_string(plan.dtype));
    for (const auto& [name, value] : trace.info().metadata) {
        text += fmt::format("{}={}\n", name, value);
    }
    text += fmt::format("queries {}, keys {}\n", trace.info().queries, trace.info().keys);
    for (const RouteSetting& setting : plan.settings) {
        text += fmt::format("B {} k {} {} {} {}\n", setting.score.block_size, setting.topk, scorer_text(setting.score),
                            setting.keep_first, setting.score.centroids == kernels::Centroids::fp32);
    }
    return text;
}

/// Work of a unit, roughly: products of queries and keys.
double work_of(const TracePlan& plan) {
    const TraceInfo& info = plan.trace.info();
    return static_cast<double>(info.queries) * static_cast<double>(info.keys) * static_cast<double>(info.head_dim);
}

std::optional<std::vector<MeasuredSetting>> recorded(const ResumableOutput* output, std::size_t unit,
                                                     std::size_t settings) {
    if (output == nullptr) {
        return std::nullopt;
    }
    const auto found = output->records().find(static_cast<std::int64_t>(unit));
    return found == output->records().end() ? std::nullopt : settings_of(found->second, settings);
}

}  // namespace

// record=3: the task names what every head reads. A head's record holds where routed blocks lie, and its file the table
// measure_distance.
std::string measure_task(const MeasurePlan& plan, const MeasureSettings& settings, const std::string& device) {
    std::string text =
        fmt::format("measure\nrecord=3\nschema={}\nrows={}\nseed={}\nconfidence={}\ndevice={}\n",
                    results_schema_version, settings.rows, settings.seed, shortest(settings.confidence), device);
    for (const TracePlan& of_trace : plan.traces) {
        text += identity_of(of_trace);
    }
    return task_id(text + identity_of_units(plan));
}

std::vector<std::vector<MeasuredSetting>> run_measurement(const MeasurePlan& plan, const MeasureSettings& settings,
                                                          HeadMeter& meter, ResumableOutput* output,
                                                          const MeasureProgress& progress) {
    double total = 0.0;
    for (const MeasureUnit& unit : plan.units) {
        total += work_of(plan.traces[unit.trace]);
    }
    double done = 0.0;
    std::vector<std::vector<MeasuredSetting>> measured;
    for (std::size_t i = 0; i < plan.units.size(); ++i) {
        const MeasureUnit& unit = plan.units[i];
        const TracePlan& of_trace = plan.traces[unit.trace];
        auto known = recorded(output, i, of_trace.settings.size());
        const bool found = known.has_value();
        if (!found) {
            known = measure_head(of_trace, unit.layer, unit.head, settings, meter, [&](double share) {
                progress(
                    (done + share * work_of(of_trace)) / total,
                    fmt::format("layer {}, head {}, {} of {} heads", unit.layer, unit.head, i + 1, plan.units.size()));
            });
        }
        done += work_of(of_trace);
        measured.push_back(std::move(*known));
        if (!found && output != nullptr) {
            output->record(static_cast<std::int64_t>(i), record_of(measured.back()));
        }
    }
    return measured;
}

}  // namespace mobalab::experiments
