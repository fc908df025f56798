#include "experiments/trace/hdf5_content.h"

#include <fmt/format.h>
#include <hdf5.h>

#include <array>
#include <limits>
#include <stdexcept>
#include <vector>

#include "experiments/trace/checked_json.h"
#include "experiments/trace/tensor_file.h"

namespace mobalab::experiments {
namespace {

constexpr std::int64_t most_chunk_bytes = std::int64_t{1} << 30;
constexpr hsize_t most_links = 1 << 16;
constexpr std::int64_t most_attributes = 1024;
constexpr std::size_t most_text_bytes = 100'000'000;

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error(what);
}

/// Of a call that fails on damaged files only: an id, a size or a status, negative for failure.
template <typename Result>
Result require(Result result, const char* what) {
    if (result < 0) {
        fail(fmt::format("is a damaged HDF5 file: {} cannot be read; record or copy it again", what));
    }
    return result;
}

hid_t open_file(const std::string& path) {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    H5PLset_loading_state(0);  // no code from HDF5_PLUGIN_PATH because a file asks for it
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) {
        fail("HDF5 cannot open it: it is damaged, or another program has it open for writing");
    }
    return file;
}

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
    const int rank = require(H5Sget_simple_extent_ndims(space), "a shape");
    std::vector<hsize_t> lengths(static_cast<std::size_t>(rank));
    require(H5Sget_simple_extent_dims(space, lengths.data(), nullptr), "a shape");
    std::vector<std::int64_t> shape;
    for (const hsize_t length : lengths) {
        shape.push_back(length > static_cast<hsize_t>(INT64_MAX) ? -1 : static_cast<std::int64_t>(length));
    }
    return shape;
}

void check_filters(hid_t properties) {
    const int filters = require(H5Pget_nfilters(properties), "its filters");
    for (int i = 0; i < filters; ++i) {
        unsigned flags = 0;
        unsigned config = 0;
        std::size_t values = 0;
        std::array<char, 64> name{};
        const H5Z_filter_t filter = require(H5Pget_filter2(properties, static_cast<unsigned>(i), &flags, &values,
                                                           nullptr, name.size(), name.data(), &config),
                                            "a filter");
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32) {
            name.back() = '\0';
            fail(fmt::format("uses filter {} \"{}\"; write it without compression, or with gzip", filter,
                             shown(name.data())));
        }
    }
}

/// Every chunk must be there: what was never written would read as zeros.
void check_chunks(hid_t dataset, hid_t space, hid_t properties, const StoredTensor& tensor) {
    std::vector<hsize_t> chunk(tensor.shape.size());
    require(H5Pget_chunk(properties, static_cast<int>(chunk.size()), chunk.data()), "its chunks");
    std::vector<std::int64_t> lengths;
    std::int64_t expected = 1;
    for (std::size_t i = 0; i < chunk.size(); ++i) {
        const auto length = static_cast<std::int64_t>(chunk[i]);
        if (length < 1) {
            fail("has chunks without elements");
        }
        lengths.push_back(length);
        const std::int64_t along = tensor.shape[i] / length + (tensor.shape[i] % length != 0 ? 1 : 0);
        if (__builtin_mul_overflow(expected, along, &expected)) {
            fail("has more chunks than can be");
        }
    }
    const auto bytes = tensor_bytes(lengths, tensor.element_bytes);
    if (!bytes || *bytes > most_chunk_bytes) {
        fail(fmt::format("has chunks of shape {}; write it without chunks, or with chunks of at most 1 GiB",
                         shape_text(lengths)));
    }
    hsize_t written = 0;
    require(H5Dget_num_chunks(dataset, space, &written), "the number of its chunks");
    if (written != static_cast<hsize_t>(expected)) {
        fail(fmt::format("has {} of its {} chunks: the rest was never written", written, expected));
    }
}

void check_storage(hid_t dataset, hid_t space, const StoredTensor& tensor, std::int64_t bytes) {
    const hid_t properties = require(H5Dget_create_plist(dataset), "its layout");
    if (H5Pget_external_count(properties) != 0) {
        fail("has its numbers in another file; write them into this one");
    }
    check_filters(properties);
    switch (H5Pget_layout(properties)) {
        case H5D_CHUNKED:
            return check_chunks(dataset, space, properties, tensor);
        case H5D_CONTIGUOUS:
            if (bytes != 0 && H5Dget_offset(dataset) == HADDR_UNDEF) {
                fail("was never written");
            }
            [[fallthrough]];
        case H5D_COMPACT:
            if (H5Dget_storage_size(dataset) != static_cast<hsize_t>(bytes)) {
                fail(fmt::format("has {} bytes, shape {} needs {}", H5Dget_storage_size(dataset),
                                 shape_text(tensor.shape), bytes));
            }
            return;
        default:
            fail("is a view of other datasets (virtual); write the numbers themselves");
    }
}

StoredTensor describe(hid_t dataset) {
    const hid_t type = require(H5Dget_type(dataset), "its type");
    const hid_t space = require(H5Dget_space(dataset), "its shape");
    if (H5Sget_simple_extent_type(space) == H5S_NULL) {
        fail("is empty");
    }
    StoredTensor tensor;
    tensor.type = element_type(type);
    tensor.type_name = type_name(type);
    tensor.shape = shape_of(space);
    tensor.element_bytes = static_cast<std::int64_t>(H5Tget_size(type));
    const auto bytes = tensor_bytes(tensor.shape, tensor.element_bytes);
    if (!bytes) {
        fail(fmt::format("cannot be of shape {}", shape_text(tensor.shape)));
    }
    if (tensor.type != ElementType::other) {  // of the rest nothing is read
        check_storage(dataset, space, tensor, *bytes);
    }
    return tensor;
}

std::string link_name(hid_t file, hsize_t index) {
    const auto get = [&](char* name, std::size_t size) {
        return H5Lget_name_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, index, name, size, H5P_DEFAULT);
    };
    const ssize_t length = require(get(nullptr, 0), "a name");
    std::string name(static_cast<std::size_t>(length) + 1, '\0');
    require(get(name.data(), name.size()), "a name");
    name.pop_back();
    return name;
}

nlohmann::json tensors_of(hid_t file) {
    nlohmann::json tensors = nlohmann::json::object();
    H5G_info_t group{};
    require(H5Gget_info(file, &group), "its root group");
    if (group.nlinks > most_links) {
        fail(fmt::format("has {} names in its root group, at most {} are read", group.nlinks, most_links));
    }
    for (hsize_t index = 0; index < group.nlinks; ++index) {
        const std::string name = link_name(file, index);
        try {
            H5L_info_t link{};
            require(H5Lget_info(file, name.c_str(), &link, H5P_DEFAULT), "the link");
            if (link.type != H5L_TYPE_HARD) {
                fail("is a link to something else; put the dataset itself there");
            }
            const hid_t object = require(H5Oopen(file, name.c_str(), H5P_DEFAULT), "what it is");
            if (H5Iget_type(object) != H5I_DATASET) {
                continue;
            }
            const StoredTensor tensor = describe(object);
            tensors[name] = {{"type", static_cast<int>(tensor.type)},
                             {"type_name", tensor.type_name},
                             {"element_bytes", tensor.element_bytes},
                             {"shape", tensor.shape}};
        } catch (const std::runtime_error& error) {
            fail(fmt::format("{}: {}", shown(name), error.what()));
        }
    }
    return tensors;
}

std::string text_of(hid_t attribute) {
    const hid_t type = require(H5Aget_type(attribute), "its type");
    const hid_t space = require(H5Aget_space(attribute), "its shape");
    if (H5Tget_class(type) != H5T_STRING || H5Sget_simple_extent_npoints(space) != 1) {
        fail("must be one string (all metadata are text, numbers too)");
    }
    const hid_t memory_type = require(H5Tget_native_type(type, H5T_DIR_DEFAULT), "its type");
    if (H5Tis_variable_str(type) > 0) {
        char* text = nullptr;
        require(H5Aread(attribute, memory_type, &text), "its text");
        return text == nullptr ? "" : text;
    }
    const std::size_t bytes = H5Tget_size(type);
    if (bytes > most_text_bytes) {
        fail(fmt::format("has {} bytes, at most {} are read", bytes, most_text_bytes));
    }
    std::string text(bytes, '\0');
    require(H5Aread(attribute, memory_type, text.data()), "its text");
    const char padding = H5Tget_strpad(type) == H5T_STR_SPACEPAD ? ' ' : '\0';
    text.resize(padding == ' ' ? text.find_last_not_of(' ') + 1 : std::min(text.find('\0'), text.size()));
    return text;
}

nlohmann::json metadata_of(hid_t file) {
    nlohmann::json metadata = nlohmann::json::object();
    const int count = require(H5Aget_num_attrs(file), "its attributes");
    if (count > most_attributes) {
        fail(fmt::format("has {} attributes, at most {} are read", count, most_attributes));
    }
    for (int index = 0; index < count; ++index) {
        const hid_t attribute = require(H5Aopen_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC,
                                                       static_cast<hsize_t>(index), H5P_DEFAULT, H5P_DEFAULT),
                                        "an attribute");
        const ssize_t length = require(H5Aget_name(attribute, 0, nullptr), "the name of an attribute");
        std::string name(static_cast<std::size_t>(length) + 1, '\0');
        require(H5Aget_name(attribute, name.size(), name.data()), "the name of an attribute");
        name.pop_back();
        try {
            metadata[name] = text_of(attribute);
            (void)nlohmann::json(metadata[name]).dump();  // throws where it is no UTF-8
        } catch (const nlohmann::json::exception&) {
            fail(fmt::format("attribute {}: is no valid UTF-8", shown(name)));
        } catch (const std::runtime_error& error) {
            fail(fmt::format("attribute {}: {}", shown(name), error.what()));
        }
    }
    return metadata;
}

template <typename Work>
auto naming(const std::string& shown_path, const Work& work) {
    try {
        return work();
    } catch (const std::exception& error) {
        throw std::runtime_error(fmt::format("{}: {}", shown_path, error.what()));
    }
}

}  // namespace

nlohmann::json hdf5_content(const std::string& path, const std::string& shown_path) {
    return naming(shown_path, [&] {
        const hid_t file = open_file(path);
        return nlohmann::json{{"tensors", tensors_of(file)}, {"metadata", metadata_of(file)}};
    });
}

std::string hdf5_head(const std::string& path, const std::string& shown_path, const std::string& name,
                      std::int64_t head) {
    return naming(shown_path, [&] {
        const hid_t file = open_file(path);
        const hid_t dataset = require(H5Dopen2(file, name.c_str(), H5P_DEFAULT), name.c_str());
        const StoredTensor tensor = describe(dataset);
        const hid_t type = require(H5Dget_type(dataset), "its type");
        const hid_t space = require(H5Dget_space(dataset), "its shape");
        const auto rows = static_cast<hsize_t>(tensor.shape.at(0));
        const auto dim = static_cast<hsize_t>(tensor.shape.at(2));
        const std::array<hsize_t, 3> start{0, static_cast<hsize_t>(head), 0};
        const std::array<hsize_t, 3> count{rows, 1, dim};
        require(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr), "a head");
        const hid_t memory = require(H5Screate_simple(3, count.data(), nullptr), "a head");
        std::string bytes(rows * dim * static_cast<std::size_t>(tensor.element_bytes), '\0');
        if (H5Dread(dataset, type, memory, space, H5P_DEFAULT, bytes.data()) < 0) {
            fail(fmt::format("head {} of {} cannot be read: the file is damaged; record or copy it again", head,
                             shown(name)));
        }
        return bytes;
    });
}

}  // namespace mobalab::experiments
