#include "experiments/trace/hdf5_dataset.h"

#include <array>
#include <stdexcept>
#include <vector>

#include "experiments/trace/checked_json.h"

namespace mobalab::experiments {
namespace {

constexpr std::int64_t most_chunk_bytes = std::int64_t{1} << 30;

bool is_ieee(hid_t type, std::array<std::size_t, 5> fields, std::size_t bias) {
    std::array<std::size_t, 5> found{};
    return H5Tget_order(type) == H5T_ORDER_LE && H5Tget_precision(type) == 8 * H5Tget_size(type) &&
           H5Tget_fields(type, found.data(), &found[1], &found[2], &found[3], &found[4]) >= 0 && found == fields &&
           H5Tget_ebias(type) == bias && H5Tget_norm(type) == H5T_NORM_IMPLIED;
}

/// By the bits of the type: sign, exponent and its size, mantissa and its size.
ElementType element_type(hid_t type) {
    const std::size_t bytes = H5Tget_size(type);
    if (H5Tget_class(type) == H5T_FLOAT && bytes == 4 && is_ieee(type, {31, 23, 8, 0, 23}, 127)) {
        return ElementType::fp32;
    }
    if (H5Tget_class(type) == H5T_FLOAT && bytes == 2) {
        return is_ieee(type, {15, 10, 5, 0, 10}, 15)  ? ElementType::fp16
               : is_ieee(type, {15, 7, 8, 0, 7}, 127) ? ElementType::bf16
                                                      : ElementType::other;
    }
    return H5Tequal(type, H5T_STD_U16LE) > 0   ? ElementType::bits16
           : H5Tequal(type, H5T_STD_I32LE) > 0 ? ElementType::int32
                                               : ElementType::other;
}

std::string type_name(hid_t type) {
    const H5T_class_t kind = H5Tget_class(type);
    return fmt::format("{}-byte {}{}", H5Tget_size(type),
                       kind == H5T_FLOAT     ? "float"
                       : kind == H5T_INTEGER ? "integer"
                                             : "element of HDF5 class " + std::to_string(static_cast<int>(kind)),
                       H5Tget_order(type) == H5T_ORDER_BE ? ", big-endian" : "");
}

std::vector<std::int64_t> shape_of(hid_t space) {
    const int rank = hdf5_require(H5Sget_simple_extent_ndims(space), "a shape");
    std::vector<hsize_t> lengths(static_cast<std::size_t>(rank));
    hdf5_require(H5Sget_simple_extent_dims(space, lengths.data(), nullptr), "a shape");
    std::vector<std::int64_t> shape;
    for (const hsize_t length : lengths) {
        shape.push_back(length > static_cast<hsize_t>(INT64_MAX) ? -1 : static_cast<std::int64_t>(length));
    }
    return shape;
}

void check_filters(hid_t properties) {
    const int filters = hdf5_require(H5Pget_nfilters(properties), "its filters");
    for (int i = 0; i < filters; ++i) {
        unsigned flags = 0;
        unsigned config = 0;
        std::size_t values = 0;
        std::array<char, 64> name{};
        const H5Z_filter_t filter = hdf5_require(H5Pget_filter2(properties, static_cast<unsigned>(i), &flags, &values,
                                                                nullptr, name.size(), name.data(), &config),
                                                 "a filter");
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32) {
            name.back() = '\0';
            hdf5_fail(fmt::format("uses filter {} \"{}\"; write it without compression, or with gzip", filter,
                                  shown(name.data())));
        }
    }
}

/// Every chunk must be there: what was never written would read as zeros.
void check_chunks(hid_t dataset, hid_t space, hid_t properties, const StoredTensor& tensor) {
    std::vector<hsize_t> chunk(tensor.shape.size());
    hdf5_require(H5Pget_chunk(properties, static_cast<int>(chunk.size()), chunk.data()), "its chunks");
    std::vector<std::int64_t> lengths;
    std::int64_t expected = 1;
    for (std::size_t i = 0; i < chunk.size(); ++i) {
        const auto length = static_cast<std::int64_t>(chunk[i]);
        if (length < 1) {
            hdf5_fail("has chunks without elements");
        }
        lengths.push_back(length);
        const std::int64_t along = tensor.shape[i] / length + (tensor.shape[i] % length != 0 ? 1 : 0);
        if (__builtin_mul_overflow(expected, along, &expected)) {
            hdf5_fail("has more chunks than can be");
        }
    }
    const auto bytes = tensor_bytes(lengths, tensor.element_bytes);
    if (!bytes || *bytes > most_chunk_bytes) {
        hdf5_fail(fmt::format("has chunks of shape {}; write it without chunks, or with chunks of at most 1 GiB",
                              shape_text(lengths)));
    }
    hsize_t written = 0;
    hdf5_require(H5Dget_num_chunks(dataset, space, &written), "the number of its chunks");
    if (written != static_cast<hsize_t>(expected)) {
        hdf5_fail(fmt::format("has {} of its {} chunks: the rest was never written", written, expected));
    }
}

void check_storage(hid_t dataset, hid_t space, const StoredTensor& tensor, std::int64_t bytes) {
    const hid_t properties = hdf5_require(H5Dget_create_plist(dataset), "its layout");
    if (H5Pget_external_count(properties) != 0) {
        hdf5_fail("has its numbers in another file; write them into this one");
    }
    check_filters(properties);
    switch (H5Pget_layout(properties)) {
        case H5D_CHUNKED:
            return check_chunks(dataset, space, properties, tensor);
        case H5D_CONTIGUOUS:
            if (bytes != 0 && H5Dget_offset(dataset) == HADDR_UNDEF) {
                hdf5_fail("was never written");
            }
            [[fallthrough]];
        case H5D_COMPACT:
            if (H5Dget_storage_size(dataset) != static_cast<hsize_t>(bytes)) {
                hdf5_fail(fmt::format("has {} bytes, shape {} needs {}", H5Dget_storage_size(dataset),
                                      shape_text(tensor.shape), bytes));
            }
            return;
        default:
            hdf5_fail("is a view of other datasets (virtual); write the numbers themselves");
    }
}

}  // namespace

void hdf5_fail(const std::string& what) {
    throw std::runtime_error(what);
}

StoredTensor describe_dataset(hid_t dataset) {
    const hid_t type = hdf5_require(H5Dget_type(dataset), "its type");
    const hid_t space = hdf5_require(H5Dget_space(dataset), "its shape");
    if (H5Sget_simple_extent_type(space) == H5S_NULL) {
        hdf5_fail("is empty");
    }
    StoredTensor tensor;
    tensor.type = element_type(type);
    tensor.type_name = type_name(type);
    tensor.shape = shape_of(space);
    tensor.element_bytes = static_cast<std::int64_t>(H5Tget_size(type));
    const auto bytes = tensor_bytes(tensor.shape, tensor.element_bytes);
    if (!bytes) {
        hdf5_fail(fmt::format("cannot be of shape {}", shape_text(tensor.shape)));
    }
    if (tensor.type != ElementType::other) {  // of the rest nothing is read
        check_storage(dataset, space, tensor, *bytes);
    }
    return tensor;
}

}  // namespace mobalab::experiments
