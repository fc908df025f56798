#include "experiments/measure/head_measurement.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/routing_point.h"
#include "experiments/base/interrupt.h"
#include "experiments/device/element_conversion.h"

namespace mobalab::experiments {
namespace {

using kernels::DataType;

HeadRows rounded_to(DataType dtype, const HeadRows& rows, const std::string& where) {
    if (rows.dtype == dtype || rows.rows == 0) {
        return rows;
    }
    const std::vector<float> values = rows.to_float();
    constexpr float largest_fp16 = 65504.0F;
    if (dtype == DataType::fp16) {
        const auto beyond =
            std::find_if(values.begin(), values.end(), [](float value) { return std::abs(value) > largest_fp16; });
        if (beyond != values.end()) {
            throw analysis::InputError(fmt::format("dtype = fp16: {} holds {}, beyond fp16's {}; nearest valid: bf16",
                                                   where, *beyond, largest_fp16));
        }
    }
    HeadRows rounded{.dtype = dtype, .rows = rows.rows, .head_dim = rows.head_dim, .bytes = {}};
    rounded.bytes.resize(values.size() * kernels::size_of(dtype));
    store_as(dtype, values, rounded.bytes.data());
    return rounded;
}

HeadRows part_of(const HeadRows& rows, std::int64_t first, std::int64_t count) {
    const auto row_bytes =
        static_cast<std::ptrdiff_t>(rows.head_dim) * static_cast<std::ptrdiff_t>(kernels::size_of(rows.dtype));
    return {.dtype = rows.dtype,
            .rows = count,
            .head_dim = rows.head_dim,
            .bytes = {rows.bytes.begin() + first * row_bytes, rows.bytes.begin() + (first + count) * row_bytes}};
}

std::vector<FactPair> facts_of(const TraceInfo& info) {
    std::vector<FactPair> facts;
    for (const TraceNeedle& needle : info.needles) {
        for (std::size_t i = 0; i < needle.query.size(); ++i) {
            facts.push_back({needle.query[i], needle.key[i]});
        }
    }
    return facts;
}

}  // namespace

std::vector<RowStretch> row_stretches(std::int64_t q_start, std::int64_t queries, std::int64_t wanted,
                                      std::int64_t rows_a_call) {
    constexpr std::int64_t rows_a_stretch = 128;  // a query block of the intervals (HeadSummary)
    const std::int64_t count = (wanted + rows_a_stretch - 1) / rows_a_stretch;
    const std::int64_t before = (rows_a_stretch - q_start % rows_a_stretch) % rows_a_stretch;
    const std::int64_t whole = std::max<std::int64_t>(0, queries - before) / rows_a_stretch;
    std::vector<RowStretch> stretches;
    if (wanted == 0 || count > whole || wanted >= queries) {
        for (std::int64_t first = 0; first < queries; first += rows_a_call) {
            stretches.push_back({first, std::min(rows_a_call, queries - first)});
        }
        return stretches;
    }
    // One in each of `count` equal parts, so that no end counts more, at places that are spread over the parts
    // (multiples of the golden ratio): at equal distances all might begin at one place of blocks of two or four
    // stretches.
    constexpr double golden = 0.6180339887498949;
    std::int64_t last = -1;
    for (std::int64_t i = 0; i < count; ++i) {
        const auto part = static_cast<double>(i);
        const double place = 0.25 + part * golden;
        const double wanted_place =
            (part + place - std::floor(place)) * static_cast<double>(whole) / static_cast<double>(count);
        last = std::clamp(static_cast<std::int64_t>(wanted_place), last + 1, whole - (count - i));
        stretches.push_back({before + last * rows_a_stretch, rows_a_stretch});
    }
    return stretches;
}

std::vector<MeasuredSetting> measure_head(const TracePlan& plan, std::int64_t layer, std::int64_t head,
                                          const MeasureSettings& settings, HeadMeter& meter,
                                          const HeadProgress& progress) {
    const TraceInfo& info = plan.trace.info();
    const std::int64_t key_head = head / (info.query_heads / info.key_heads);
    const auto read = [&](const HeadRows& rows, const char* name) {
        return rounded_to(plan.dtype, rows, fmt::format("{} of layer {} in {}", name, layer, plan.trace.path()));
    };
    const HeadRows q = read(plan.trace.queries(layer, head), "q");
    HeadTensors tensors{.q = {},
                        .k = read(plan.trace.keys(layer, key_head), "k"),
                        .v = plan.trace.has_values() ? read(plan.trace.values(layer, key_head), "v") : HeadRows{},
                        .q_start = 0,
                        .scale = info.scale};
    HeadSummary summary(plan.settings, facts_of(info), key_statistics(tensors.k));
    std::int64_t done = 0;
    const std::vector<RowStretch> stretches = row_stretches(info.q_start, q.rows, settings.rows, meter.rows_a_call());
    for (const RowStretch& stretch : stretches) {
        stop_if_interrupted();
        tensors.q = part_of(q, stretch.first, stretch.count);
        tensors.q_start = info.q_start + stretch.first;
        summary.add(tensors, meter.measure(tensors, plan.settings, settings.seed));
        progress(static_cast<double>(++done) / static_cast<double>(stretches.size()));
    }
    return summary.settings(settings.confidence);
}

}  // namespace mobalab::experiments
