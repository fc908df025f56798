#include "experiments/trace/tensor_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <string_view>

#include "experiments/base/regular_file.h"
#include "experiments/trace/containers.h"

namespace mobalab::experiments {

std::optional<std::int64_t> tensor_bytes(std::span<const std::int64_t> shape, std::int64_t element_bytes) {
    std::int64_t product = element_bytes;
    for (const std::int64_t length : shape) {
        if (length < 0 || __builtin_mul_overflow(product, length, &product)) {
            return std::nullopt;
        }
    }
    return product;
}

std::string shape_text(std::span<const std::int64_t> shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::unique_ptr<TensorFile> open_tensor_file(const std::string& path) {
    FileBytes file(path);
    std::array<char, 9> first{};
    const auto count = static_cast<std::size_t>(std::min<std::int64_t>(file.size(), std::ssize(first)));
    file.read(0, std::as_writable_bytes(std::span(first).first(count)));
    const std::string_view start(first.data(), count);
    if (start.starts_with("\x89HDF\r\n\x1a\n")) {
        return open_hdf5(std::move(file));
    }
    if (start.starts_with("PK\x03\x04")) {
        return open_npz(std::move(file));
    }
    if (start.size() == first.size() && start[8] == '{') {
        return open_safetensors(std::move(file));
    }
    throw FileError(
        fmt::format("{}: begins like none of the files a trace can be; give a safetensors, HDF5 or .npz file", path));
}

}  // namespace mobalab::experiments
