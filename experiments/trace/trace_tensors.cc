#include "experiments/trace/trace_tensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>
#include <vector>

#include "experiments/base/regular_file.h"
#include "experiments/trace/checked_json.h"

namespace mobalab::experiments {
namespace {

using Tensors = std::map<std::string, StoredTensor>;

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
    TensorCheck(const std::string& path, const Tensors& tensors, TraceMetadata& trace)
        : path_(path), tensors_(tensors), trace_(trace) {}

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
        for (const auto& [name, tensor] : tensors_) {
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
        const auto found = tensors_.find(name);
        if (found != tensors_.end()) {
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
        const auto found = tensors_.find("token_ids");
        if (found == tensors_.end()) {
            return;
        }
        const StoredTensor& ids = found->second;
        if (ids.type != ElementType::int32 || ids.shape != std::vector<std::int64_t>{trace_.info.tokens}) {
            fail("tensor token_ids of {} has shape {}: must be 32-bit integers [{}], one a token", shown(ids.type_name),
                 shape_text(ids.shape), trace_.info.tokens);
        }
    }

    const std::string& path_;
    const Tensors& tensors_;
    TraceMetadata& trace_;
};

}  // namespace

std::string tensor_name(bool layers_in_names, std::int64_t layer, char name) {
    return layers_in_names ? fmt::format("layers.{}.{}", layer, name) : std::string(1, name);
}

void check_tensors(const std::string& path, const std::map<std::string, StoredTensor>& tensors, TraceMetadata& trace) {
    TensorCheck(path, tensors, trace).check();
}

}  // namespace mobalab::experiments
