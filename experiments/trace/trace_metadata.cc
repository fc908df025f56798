#include "experiments/trace/trace_metadata.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "experiments/base/regular_file.h"
#include "experiments/base/values.h"
#include "experiments/trace/checked_json.h"

namespace mobalab::experiments {
namespace {

/// Above this no model and no text is; sums and products of two stay in 64 bits.
constexpr std::int64_t most_tokens = std::int64_t{1} << 31;
constexpr std::int64_t most_heads = 1 << 16;
constexpr std::int64_t most_dims = 1 << 16;
constexpr std::int64_t most_layers = 1 << 16;

/// Metadata by name, each with its rule.
class Fields {
public:
    Fields(const std::string& path, const std::map<std::string, std::string>& metadata)
        : path_(path), metadata_(metadata) {}

    [[noreturn]] void fail(const std::string& name, const std::string& rule) const {
        throw FileError(fmt::format("{}: metadata {} = \"{}\": {}", path_, name, shown(metadata_.at(name)), rule));
    }
    bool has(const std::string& name) const { return metadata_.contains(name); }
    std::string text(const std::string& name) const { return has(name) ? metadata_.at(name) : ""; }

    const std::string& required(const std::string& name) const {
        const auto found = metadata_.find(name);
        if (found == metadata_.end()) {
            throw FileError(fmt::format(
                "{}: metadata {} is missing; what a qkv-trace holds is in experiments/trace/README.md", path_, name));
        }
        return found->second;
    }

    std::string one_of(const std::string& name, const std::vector<std::string>& accepted) const {
        const std::string& value = required(name);
        if (std::ranges::find(accepted, value) == accepted.end()) {
            fail(name, fmt::format("must be {}{}", fmt::join(accepted, " or "), nearest_hint(shown(value), accepted)));
        }
        return value;
    }

    std::int64_t parse(const std::string& name, std::string_view value, std::int64_t least, std::int64_t most) const {
        std::int64_t number = 0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
        if (error == std::errc::invalid_argument || end != value.data() + value.size()) {
            fail(name, fmt::format("must be a whole number from {} to {}, in digits", least, most));
        }
        if (error != std::errc() || number < least || number > most) {
            const bool low = error == std::errc() ? number < least : value.starts_with('-');
            fail(name, fmt::format("must be from {} to {}; nearest valid: {}", least, most, low ? least : most));
        }
        return number;
    }
    std::int64_t integer(const std::string& name, std::int64_t least, std::int64_t most) const {
        return parse(name, required(name), least, most);
    }

    double positive(const std::string& name) const {
        const std::string& value = required(name);
        double number = 0.0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
        if (error != std::errc() || end != value.data() + value.size() || !(number > 0.0) || !std::isfinite(number)) {
            fail(name, "must be a number above 0, as in 0.125");
        }
        return number;
    }

private:
    const std::string& path_;
    const std::map<std::string, std::string>& metadata_;
};

std::vector<std::int64_t> read_layers(const Fields& fields, bool one_layer) {
    const std::int64_t most = (fields.has("layers") ? fields.integer("layers", 1, most_layers) : most_layers) - 1;
    if (one_layer) {
        return {fields.integer("layer", 0, most)};
    }
    const std::string name = "recorded_layers";
    std::vector<std::int64_t> layers;
    std::string_view rest = fields.required(name);
    for (;;) {
        const std::size_t comma = rest.find(',');
        layers.push_back(fields.parse(name, rest.substr(0, comma), 0, most));
        if (layers.size() > 1 && layers.back() <= layers[layers.size() - 2]) {
            fields.fail(name, "must ascend, as in 0,5,10");
        }
        if (comma == std::string_view::npos) {
            return layers;
        }
        rest.remove_prefix(comma + 1);
    }
}

void read_rope(const Fields& fields, TraceInfo& info) {
    info.rope = fields.one_of("rope", {"post", "pre", "none"});
    if (fields.has("rope_theta")) {
        info.rope_theta = fields.positive("rope_theta");
    }
    if (fields.has("rope_dim")) {
        info.rope_dim = fields.integer("rope_dim", 1, info.head_dim);
    }
    if (fields.has("rope_layout")) {
        info.rope_layout = fields.one_of("rope_layout", {"half", "interleaved"});
    }
}

}  // namespace

TraceMetadata read_trace_metadata(const std::string& path, const std::map<std::string, std::string>& metadata) {
    const Fields fields(path, metadata);
    fields.one_of("format", {"qkv-trace"});
    fields.one_of("format_version", {"1"});
    fields.one_of("layout", {"token,head,dim"});
    TraceMetadata read;
    TraceInfo& info = read.info;
    info.metadata = metadata;
    info.model = fields.text("model");
    info.text = fields.text("text");
    info.query_heads = fields.integer("query_heads", 1, most_heads);
    info.key_heads = fields.integer("key_heads", 1, info.query_heads);
    if (info.query_heads % info.key_heads != 0) {
        fields.fail("query_heads", fmt::format("must be a multiple of key_heads = {}; nearest valid: {}",
                                               info.key_heads, info.query_heads / info.key_heads * info.key_heads));
    }
    info.head_dim = fields.integer("head_dim", 1, most_dims);
    info.tokens = fields.integer("tokens", 1, most_tokens);
    info.q_start = fields.integer("q_start", 0, info.tokens - 1);
    info.k_start = fields.integer("k_start", 0, 0);
    info.scale = fields.positive("scale");
    info.causal = fields.one_of("causal", {"1"}) == "1";
    read_rope(fields, info);
    info.needles =
        fields.has("needles") ? read_needles(path, fields.text("needles"), info.tokens) : std::vector<TraceNeedle>();
    const std::string dtype = fields.one_of("dtype", {"fp32", "bf16", "fp16"});
    read.dtype = dtype == "fp32"   ? kernels::DataType::fp32
                 : dtype == "bf16" ? kernels::DataType::bf16
                                   : kernels::DataType::fp16;
    if (fields.has("layer") && fields.has("recorded_layers")) {
        fields.fail("layer", "a trace of one layer says layer, of several recorded_layers; take one of them out");
    }
    if (!fields.has("layer") && !fields.has("recorded_layers")) {
        throw FileError(
            fmt::format("{}: metadata layer (or recorded_layers, of several) is missing: which of the model's "
                        "layers this is, from 0",
                        path));
    }
    read.one_layer = fields.has("layer");
    read.layers = read_layers(fields, read.one_layer);
    return read;
}

}  // namespace mobalab::experiments
