#include "experiments/trace/trace.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "experiments/base/regular_file.h"
#include "experiments/trace/tensor_file.h"
#include "experiments/trace/trace_metadata.h"
#include "experiments/trace/trace_tensors.h"

namespace mobalab::experiments {
namespace {

template <typename Element>
std::vector<float> widened(const HeadRows& head) {
    using Elements = Eigen::Array<Element, Eigen::Dynamic, 1>;
    std::vector<float> values(static_cast<std::size_t>(head.rows * head.head_dim));
    Eigen::Map<Eigen::ArrayXf>(values.data(), std::ssize(values)) =
        Eigen::Map<const Elements>(reinterpret_cast<const Element*>(head.bytes.data()), std::ssize(values))
            .template cast<float>();
    return values;
}

/// NaN and infinities have all bits of the exponent set. Returns the first such element, or the number of elements.
template <typename Bits>
std::int64_t first_not_finite(const std::vector<std::byte>& bytes, Bits exponent) {
    const auto count = bytes.size() / sizeof(Bits);
    const auto* elements = reinterpret_cast<const Bits*>(bytes.data());
    constexpr std::size_t stride = 4096;  // looked at without a branch
    for (std::size_t first = 0; first < count; first += stride) {
        const std::size_t end = std::min(count, first + stride);
        unsigned bad = 0;
        for (std::size_t i = first; i < end; ++i) {
            bad |= (elements[i] & exponent) == exponent ? 1U : 0U;
        }
        if (bad != 0) {
            const auto* found = std::find_if(elements + first, elements + end,
                                             [&](Bits element) { return (element & exponent) == exponent; });
            return found - elements;
        }
    }
    return static_cast<std::int64_t>(count);
}

std::int64_t first_not_finite(const HeadRows& head) {
    switch (head.dtype) {
        case kernels::DataType::fp32:
            return first_not_finite<std::uint32_t>(head.bytes, 0x7f800000);
        case kernels::DataType::bf16:
            return first_not_finite<std::uint16_t>(head.bytes, 0x7f80);
        default:
            return first_not_finite<std::uint16_t>(head.bytes, 0x7c00);
    }
}

}  // namespace

std::vector<float> HeadRows::to_float() const {
    switch (dtype) {
        case kernels::DataType::fp32:
            return widened<float>(*this);
        case kernels::DataType::bf16:
            return widened<Eigen::bfloat16>(*this);
        default:
            return widened<Eigen::half>(*this);
    }
}

Trace Trace::open(const std::string& path) {
    Trace trace;
    trace.path_ = path;
    trace.file_ = open_tensor_file(path);
    TraceMetadata metadata = read_trace_metadata(path, trace.file_->metadata());
    check_tensors(path, trace.file_->tensors(), metadata);
    trace.info_ = std::move(metadata.info);
    trace.dtype_ = metadata.dtype;
    trace.layers_ = std::move(metadata.layers);
    trace.layers_in_names_ = !metadata.one_layer;
    return trace;
}

HeadRows Trace::queries(std::int64_t layer, std::int64_t query_head) const {
    return head(layer, 'q', query_head, info_.query_heads);
}

HeadRows Trace::keys(std::int64_t layer, std::int64_t key_head) const {
    return head(layer, 'k', key_head, info_.key_heads);
}

HeadRows Trace::values(std::int64_t layer, std::int64_t key_head) const {
    if (!has_values()) {
        throw FileError(fmt::format("{}: has no values (tensor v); record the trace with them", path_));
    }
    return head(layer, 'v', key_head, info_.key_heads);
}

HeadRows Trace::head(std::int64_t layer, char name, std::int64_t head, std::int64_t heads) const {
    if (!std::ranges::binary_search(layers_, layer)) {
        throw FileError(fmt::format("{}: layer = {}: must be one of the layers in the file: {}", path_, layer,
                                    fmt::join(layers_, ",")));
    }
    if (head < 0 || head >= heads) {
        throw FileError(fmt::format("{}: head = {}: {} has heads 0 to {}; nearest valid: {}", path_, head, name,
                                    heads - 1, head < 0 ? 0 : heads - 1));
    }
    HeadRows rows{dtype_, name == 'q' ? info_.queries : info_.keys, name == 'v' ? info_.value_dim : info_.head_dim, {}};
    rows.bytes = file_->head(tensor_name(layers_in_names_, layer, name), head);
    const std::int64_t bad = first_not_finite(rows);
    if (bad != rows.rows * rows.head_dim) {
        throw FileError(fmt::format(
            "{}: {} of layer {}, head {}: token {}, channel {} is NaN or infinite; every statistic of the "
            "head would be, so record it again or leave the head out",
            path_, name, layer, head, bad / rows.head_dim + (name == 'q' ? info_.q_start : 0), bad % rows.head_dim));
    }
    return rows;
}

}  // namespace mobalab::experiments
