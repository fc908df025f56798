#include "experiments/trace/hdf5_content.h"

#include <fmt/format.h>

#include <array>
#include <limits>
#include <stdexcept>
#include <vector>

#include "experiments/trace/checked_json.h"
#include "experiments/trace/hdf5_dataset.h"

namespace mobalab::experiments {
namespace {

constexpr hsize_t most_links = 1 << 16;
constexpr std::int64_t most_attributes = 1024;
constexpr std::size_t most_text_bytes = 100'000'000;

hid_t open_file(const std::string& path) {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    H5PLset_loading_state(0);  // no code from HDF5_PLUGIN_PATH because a file asks for it
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) {
        hdf5_fail("HDF5 cannot open it: it is damaged, or another program has it open for writing");
    }
    return file;
}

std::string link_name(hid_t root, hsize_t index) {
    const auto get = [&](char* name, std::size_t size) {
        return H5Lget_name_by_idx(root, ".", H5_INDEX_NAME, H5_ITER_INC, index, name, size, H5P_DEFAULT);
    };
    const ssize_t length = hdf5_require(get(nullptr, 0), "a name");
    std::string name(static_cast<std::size_t>(length) + 1, '\0');
    hdf5_require(get(name.data(), name.size()), "a name");
    name.pop_back();
    return name;
}

nlohmann::json tensors_of(hid_t root) {
    nlohmann::json tensors = nlohmann::json::object();
    H5G_info_t group{};
    hdf5_require(H5Gget_info(root, &group), "its root group");
    if (group.nlinks > most_links) {
        hdf5_fail(fmt::format("has {} names in its root group, at most {} are read", group.nlinks, most_links));
    }
    for (hsize_t index = 0; index < group.nlinks; ++index) {
        const std::string name = link_name(root, index);
        try {
            H5L_info_t link{};
            hdf5_require(H5Lget_info(root, name.c_str(), &link, H5P_DEFAULT), "the link");
            if (link.type != H5L_TYPE_HARD) {
                hdf5_fail("is a link to something else; put the dataset itself there");
            }
            const hid_t object = hdf5_require(H5Oopen(root, name.c_str(), H5P_DEFAULT), "what it is");
            if (H5Iget_type(object) != H5I_DATASET) {
                continue;
            }
            const StoredTensor tensor = describe_dataset(object);
            tensors[name] = {{"type", static_cast<int>(tensor.type)},
                             {"type_name", tensor.type_name},
                             {"element_bytes", tensor.element_bytes},
                             {"shape", tensor.shape}};
        } catch (const std::runtime_error& error) {
            hdf5_fail(fmt::format("{}: {}", shown(name), error.what()));
        }
    }
    return tensors;
}

std::string text_of(hid_t attribute) {
    const hid_t type = hdf5_require(H5Aget_type(attribute), "its type");
    const hid_t space = hdf5_require(H5Aget_space(attribute), "its shape");
    if (H5Tget_class(type) != H5T_STRING || H5Sget_simple_extent_npoints(space) != 1) {
        hdf5_fail("must be one string (all metadata are text, numbers too)");
    }
    const hid_t memory_type = hdf5_require(H5Tget_native_type(type, H5T_DIR_DEFAULT), "its type");
    if (H5Tis_variable_str(type) > 0) {
        char* text = nullptr;
        hdf5_require(H5Aread(attribute, memory_type, &text), "its text");
        return text == nullptr ? "" : text;
    }
    const std::size_t bytes = H5Tget_size(type);
    if (bytes > most_text_bytes) {
        hdf5_fail(fmt::format("has {} bytes, at most {} are read", bytes, most_text_bytes));
    }
    std::string text(bytes, '\0');
    hdf5_require(H5Aread(attribute, memory_type, text.data()), "its text");
    const char padding = H5Tget_strpad(type) == H5T_STR_SPACEPAD ? ' ' : '\0';
    text.resize(padding == ' ' ? text.find_last_not_of(' ') + 1 : std::min(text.find('\0'), text.size()));
    return text;
}

nlohmann::json metadata_of(hid_t root) {
    nlohmann::json metadata = nlohmann::json::object();
    const int count = hdf5_require(H5Aget_num_attrs(root), "its attributes");
    if (count > most_attributes) {
        hdf5_fail(fmt::format("has {} attributes, at most {} are read", count, most_attributes));
    }
    for (int index = 0; index < count; ++index) {
        const hid_t attribute = hdf5_require(H5Aopen_by_idx(root, ".", H5_INDEX_NAME, H5_ITER_INC,
                                                            static_cast<hsize_t>(index), H5P_DEFAULT, H5P_DEFAULT),
                                             "an attribute");
        const ssize_t length = hdf5_require(H5Aget_name(attribute, 0, nullptr), "the name of an attribute");
        std::string name(static_cast<std::size_t>(length) + 1, '\0');
        hdf5_require(H5Aget_name(attribute, name.size(), name.data()), "the name of an attribute");
        name.pop_back();
        try {
            metadata[name] = text_of(attribute);
            (void)nlohmann::json(metadata[name]).dump();  // throws where it is no UTF-8
        } catch (const nlohmann::json::exception&) {
            hdf5_fail(fmt::format("attribute {}: is no valid UTF-8", shown(name)));
        } catch (const std::runtime_error& error) {
            hdf5_fail(fmt::format("attribute {}: {}", shown(name), error.what()));
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
        const hid_t root = hdf5_require(H5Gopen2(open_file(path), "/", H5P_DEFAULT), "its root group");
        return nlohmann::json{{"tensors", tensors_of(root)}, {"metadata", metadata_of(root)}};
    });
}

std::string hdf5_head(const std::string& path, const std::string& shown_path, const std::string& name,
                      std::int64_t head) {
    return naming(shown_path, [&] {
        const hid_t file = open_file(path);
        const hid_t dataset = hdf5_require(H5Dopen2(file, name.c_str(), H5P_DEFAULT), name.c_str());
        const StoredTensor tensor = describe_dataset(dataset);
        const hid_t type = hdf5_require(H5Dget_type(dataset), "its type");
        const hid_t space = hdf5_require(H5Dget_space(dataset), "its shape");
        const auto rows = static_cast<hsize_t>(tensor.shape.at(0));
        const auto dim = static_cast<hsize_t>(tensor.shape.at(2));
        const std::array<hsize_t, 3> start{0, static_cast<hsize_t>(head), 0};
        const std::array<hsize_t, 3> count{rows, 1, dim};
        hdf5_require(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr),
                     "a head");
        const hid_t memory = hdf5_require(H5Screate_simple(3, count.data(), nullptr), "a head");
        std::string bytes(rows * dim * static_cast<std::size_t>(tensor.element_bytes), '\0');
        if (H5Dread(dataset, type, memory, space, H5P_DEFAULT, bytes.data()) < 0) {
            hdf5_fail(fmt::format("head {} of {} cannot be read: the file is damaged; record or copy it again", head,
                                  shown(name)));
        }
        return bytes;
    });
}

}  // namespace mobalab::experiments
