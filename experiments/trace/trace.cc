#include "experiments/trace/trace.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "experiments/base/regular_file.h"
#include "experiments/base/values.h"
#include "experiments/trace/checked_json.h"
#include "experiments/trace/tensor_file.h"
#include "experiments/trace/trace_metadata.h"

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

std::string tensor_name(bool layers_in_names, std::int64_t layer, char name) {
    return layers_in_names ? fmt::format("layers.{}.{}", layer, name) : std::string(1, name);
}

bool is_type(ElementType type, kernels::DataType dtype) {
    switch (dtype) {
        case kernels::DataType::fp32:
            return type == ElementType::fp32;
        case kernels::DataType::fp16:
            return type == ElementType::fp16;
        default:
            return type == ElementType::bf16 || type == ElementType::bits16;
    }
}

/// Tensors against metadata, and what only the tensors say.
class TensorCheck {
public:
    TensorCheck(const std::string& path, const TensorFile& file, TraceMetadata& trace)
        : path_(path), file_(file), trace_(trace) {}

    void check() {
        check_names();
        const bool has_values = tensor(trace_.layers.front(), 'v', false) != nullptr;
        for (const std::int64_t layer : trace_.layers) {
            check_layer(layer, has_values);
        }
        check_token_ids();
    }

private:
    template <typename... Arguments>
    [[noreturn]] void fail(fmt::format_string<Arguments...> format, Arguments&&... arguments) const {
        throw FileError(fmt::format("{}: {}", path_, fmt::format(format, std::forward<Arguments>(arguments)...)));
    }

    /// A tensor whose name is that of another layer, or of the other way to name, was meant to be read.
    void check_names() const {
        for (const auto& [name, tensor] : file_.tensors()) {
            const bool short_name = name == "q" || name == "k" || name == "v";
            if (!short_name && !name.starts_with("layers.")) {
                continue;
            }
            bool known = false;
            for (const char letter : {'q', 'k', 'v'}) {
                known = known || (trace_.one_layer && name == std::string(1, letter));
                for (std::size_t i = 0; !known && !trace_.one_layer && i < trace_.layers.size(); ++i) {
                    known = name == tensor_name(true, trace_.layers[i], letter);
                }
            }
            if (!known && trace_.one_layer) {
                fail(
                    "tensor {}: a trace of one layer has q, k and v; of several, metadata recorded_layers instead of "
                    "layer",
                    shown(name));
            }
            if (!known) {
                fail("tensor {}: is of none of the layers that metadata recorded_layers names: {}", shown(name),
                     fmt::join(trace_.layers, ","));
            }
        }
    }

    /// Null where it is missing and need not be there.
    const StoredTensor* tensor(std::int64_t layer, char letter, bool required) const {
        const std::string name = tensor_name(!trace_.one_layer, layer, letter);
        const auto found = file_.tensors().find(name);
        if (found != file_.tensors().end()) {
            return &found->second;
        }
        if (required) {
            fail("tensor {} is missing; the file says that it holds layer{} {}", name,
                 trace_.layers.size() == 1 ? "" : "s", fmt::join(trace_.layers, ","));
        }
        return nullptr;
    }

    void check_layer(std::int64_t layer, bool has_values) {
        TraceInfo& info = trace_.info;
        const bool first = layer == trace_.layers.front();
        check_tensor(layer, 'q', info.queries, info.query_heads, info.head_dim, first);
        check_tensor(layer, 'k', info.keys, info.key_heads, info.head_dim, first);
        if (has_values) {
            check_tensor(layer, 'v', info.keys, info.key_heads, info.value_dim, false);
        } else if (tensor(layer, 'v', false) != nullptr) {
            fail("tensor {}: there must be values of every layer or of none, and layer {} has none",
                 tensor_name(!trace_.one_layer, layer, 'v'), trace_.layers.front());
        }
        if (first && info.keys > info.tokens) {
            fail("k has {} rows: must be at most metadata tokens = {}", info.keys, info.tokens);
        }
        if (first && info.queries > info.keys - info.q_start) {
            fail("q has {} rows from q_start = {} on: the last one needs {} keys, k has {}", info.queries, info.q_start,
                 info.q_start + info.queries, info.keys);
        }
    }

    /// [rows, heads, dim]. The first layer says how many rows there are, the first values of what dim they are (0 until
    /// then).
    void check_tensor(std::int64_t layer, char letter, std::int64_t& rows, std::int64_t heads, std::int64_t& dim,
                      bool first) {
        const StoredTensor& stored = *tensor(layer, letter, true);
        const std::string name = tensor_name(!trace_.one_layer, layer, letter);
        if (!is_type(stored.type, trace_.dtype)) {
            fail("tensor {} has elements {}: must be {}, as metadata dtype says", name, shown(stored.type_name),
                 kernels::to_string(trace_.dtype));
        }
        const std::vector<std::int64_t>& shape = stored.shape;
        if (shape.size() == 3 && shape[0] >= 1 && first) {
            rows = shape[0];
        }
        if (shape.size() == 3 && shape[2] >= 1 && dim == 0) {
            dim = shape[2];
        }
        if (shape.size() != 3 || shape[0] < 1 || shape[0] != rows || shape[1] != heads || shape[2] != dim) {
            const auto wanted = [](std::int64_t known, const char* unknown) {
                return known > 0 ? std::to_string(known) : std::string(unknown);
            };
            fail("tensor {} has shape {}: must be [rows, heads, dim] = [{}, {}, {}]", name, shape_text(shape),
                 wanted(rows, "rows"), heads, wanted(dim, "dim"));
        }
    }

    void check_token_ids() const {
        const auto found = file_.tensors().find("token_ids");
        if (found == file_.tensors().end()) {
            return;
        }
        const StoredTensor& ids = found->second;
        if (ids.type != ElementType::int32 || ids.shape != std::vector<std::int64_t>{trace_.info.tokens}) {
            fail("tensor token_ids of {} has shape {}: must be 32-bit integers [{}], one a token", shown(ids.type_name),
                 shape_text(ids.shape), trace_.info.tokens);
        }
    }

    const std::string& path_;
    const TensorFile& file_;
    TraceMetadata& trace_;
};

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
    TensorCheck(path, *trace.file_, metadata).check();
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
