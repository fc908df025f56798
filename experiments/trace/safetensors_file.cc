#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>

#include "experiments/trace/checked_json.h"
#include "experiments/trace/containers.h"

// The container of https://huggingface.co/docs/safetensors: 8 bytes little-endian length of the header, the header
// (JSON), then the tensors without holes. A tensor says at which bytes behind the header it begins and ends.

namespace mobalab::experiments {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are taken from the file as they are");

using nlohmann::json;

constexpr std::int64_t most_header_bytes = 100'000'000;  // the reference implementation's limit

struct TypeName {
    std::string_view name;
    ElementType type;
    std::int64_t bytes;
};
constexpr TypeName type_names[] = {
    {"F32", ElementType::fp32, 4},     {"F16", ElementType::fp16, 2},  {"BF16", ElementType::bf16, 2},
    {"I32", ElementType::int32, 4},    {"F64", ElementType::other, 8}, {"I64", ElementType::other, 8},
    {"U64", ElementType::other, 8},    {"U32", ElementType::other, 4}, {"I16", ElementType::other, 2},
    {"U16", ElementType::other, 2},    {"I8", ElementType::other, 1},  {"U8", ElementType::other, 1},
    {"BOOL", ElementType::other, 1},   {"C64", ElementType::other, 8}, {"F8_E4M3", ElementType::other, 1},
    {"F8_E5M2", ElementType::other, 1}};

class SafetensorsFile : public TensorFile {
public:
    explicit SafetensorsFile(FileBytes file) : file_(std::move(file)) {
        const json header = read_header();
        for (const auto& [name, value] : header.items()) {
            if (name == "__metadata__") {
                read_metadata(value);
            } else {
                tensors_[name] = read_tensor(name, value);
            }
        }
        check_tiling();
    }

    std::vector<std::byte> head(const std::string& name, std::int64_t head) const override {
        const StoredTensor& tensor = tensors_.at(name);
        const std::int64_t piece = tensor.shape[2] * tensor.element_bytes;
        file_.check_unchanged();
        std::vector<std::byte> bytes =
            file_.pieces(tensor.offset + head * piece, piece, tensor.shape[1] * piece, tensor.shape[0]);
        file_.check_unchanged();
        return bytes;
    }

private:
    template <typename... Arguments>
    [[noreturn]] void fail(fmt::format_string<Arguments...> format, Arguments&&... arguments) const {
        throw FileError(fmt::format("{}: {}; record or copy it again", file_.path(),
                                    fmt::format(format, std::forward<Arguments>(arguments)...)));
    }

    json read_header() {
        std::uint64_t length = 0;
        file_.read(0, std::as_writable_bytes(std::span(&length, 1)));
        const std::int64_t most = std::min(most_header_bytes, file_.size() - 8);
        if (length > static_cast<std::uint64_t>(most)) {
            fail("header of {} bytes: a safetensors file of {} bytes has at most {}", length, file_.size(), most);
        }
        std::string text(static_cast<std::size_t>(length), '\0');
        file_.read(8, std::as_writable_bytes(std::span(text)));
        begin_ = 8 + static_cast<std::int64_t>(length);
        json header = checked_json(text, file_.path() + ": header");
        if (!header.is_object()) {
            fail("the header is no JSON object");
        }
        return header;
    }

    void read_metadata(const json& value) {
        if (!value.is_object()) {
            fail("__metadata__ is no JSON object");
        }
        for (const auto& [name, text] : value.items()) {
            if (!text.is_string()) {
                fail("metadata {} = {}: must be a string", shown(name), shown(text.dump()));
            }
            metadata_[name] = text.get<std::string>();
        }
    }

    std::vector<std::int64_t> integers(const std::string& name, const char* field, const json& tensor) const {
        std::vector<std::int64_t> values;
        const auto found = tensor.find(field);
        if (found == tensor.end() || !found->is_array()) {
            fail("tensor {}: has no list {}", shown(name), field);
        }
        for (const json& value : *found) {
            if (!value.is_number_unsigned() || value.get<std::uint64_t>() > INT64_MAX) {
                fail("tensor {}: {} = {}: must be whole numbers from 0 to 2^63 - 1", shown(name), field,
                     shown(found->dump()));
            }
            values.push_back(value.get<std::int64_t>());
        }
        return values;
    }

    StoredTensor read_tensor(const std::string& name, const json& value) const {
        if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value["dtype"].is_string()) {
            fail("tensor {}: must have dtype, shape and data_offsets, nothing else", shown(name));
        }
        StoredTensor tensor;
        tensor.type_name = value["dtype"].get<std::string>();
        const auto* known = std::ranges::find(type_names, tensor.type_name, &TypeName::name);
        if (known == std::end(type_names)) {
            fail("tensor {}: dtype {} is none of safetensors; traces have F32, BF16 or F16", shown(name),
                 shown(tensor.type_name));
        }
        tensor.type = known->type;
        tensor.element_bytes = known->bytes;
        tensor.shape = integers(name, "shape", value);
        const std::vector<std::int64_t> offsets = integers(name, "data_offsets", value);
        const std::int64_t room = file_.size() - begin_;
        if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > room) {
            fail("tensor {}: data_offsets {}: must be where it begins and ends in the {} bytes behind the header",
                 shown(name), shape_text(offsets), room);
        }
        if (tensor_bytes(tensor.shape, tensor.element_bytes) != offsets[1] - offsets[0]) {
            fail("tensor {}: {} bytes are not those of shape {} in {}", shown(name), offsets[1] - offsets[0],
                 shape_text(tensor.shape), tensor.type_name);
        }
        tensor.offset = begin_ + offsets[0];
        return tensor;
    }

    /// As the format has it: every byte behind the header is of exactly one tensor.
    void check_tiling() const {
        std::vector<std::array<std::int64_t, 2>> spans;
        for (const auto& [name, tensor] : tensors_) {
            spans.push_back({tensor.offset, tensor.offset + *tensor_bytes(tensor.shape, tensor.element_bytes)});
        }
        std::sort(spans.begin(), spans.end());
        std::int64_t end = begin_;
        for (const auto& [from, to] : spans) {
            if (from != end) {
                fail("{} at byte {} behind the header: tensors must follow each other",
                     from < end ? "tensors overlap" : "there is a hole", std::min(from, end) - begin_);
            }
            end = to;
        }
        if (end != file_.size()) {
            fail("{} bytes behind the last tensor: the file must end with it", file_.size() - end);
        }
    }

    FileBytes file_;
    std::int64_t begin_ = 0;  // of the first tensor
};

}  // namespace

std::unique_ptr<TensorFile> open_safetensors(FileBytes file) {
    return std::make_unique<SafetensorsFile>(std::move(file));
}

}  // namespace mobalab::experiments
