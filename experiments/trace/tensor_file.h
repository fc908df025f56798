#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mobalab::experiments {

/// What an element of a stored tensor is, as far as traces ask.
enum class ElementType {
    fp32,
    fp16,
    bf16,
    bits16,  ///< 16 bits of which the container does not know the meaning: bf16 in HDF5 and .npz
    int32,
    other,
};

/// A tensor of a file, its elements little-endian and in C order. What its container says of it has been checked: the
/// elements are all there, and their bytes fit in 63 bits.
struct StoredTensor {
    ElementType type = ElementType::other;
    std::string type_name;            ///< in the words of the container: "BF16", "<f2"
    std::vector<std::int64_t> shape;  ///< not negative
    std::int64_t element_bytes = 0;
    std::int64_t offset = 0;  ///< of the first element in the file, where the container keeps tensors as one piece
};

/// Bytes of a tensor: the product; nothing where that or a number in it is negative or above 2^63 - 1.
std::optional<std::int64_t> tensor_bytes(std::span<const std::int64_t> shape, std::int64_t element_bytes);

/// "[4096, 3, 64]"
std::string shape_text(std::span<const std::int64_t> shape);

/// A container of named tensors and of text about them.
class TensorFile {
public:
    virtual ~TensorFile() = default;

    const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
    const std::map<std::string, std::string>& metadata() const { return metadata_; }

    /// [rows, dim] of a tensor [rows, heads, dim] of this file. Throws FileError when the file has changed since it was
    /// opened, cannot be read, or is found damaged.
    virtual std::vector<std::byte> head(const std::string& tensor, std::int64_t head) const = 0;

protected:
    std::map<std::string, StoredTensor> tensors_;
    std::map<std::string, std::string> metadata_;
};

/// Opens a file of any of the three containers; its first bytes say of which. Throws FileError.
std::unique_ptr<TensorFile> open_tensor_file(const std::string& path);

}  // namespace mobalab::experiments
