#include "tests/experiments/trace/trace_files.h"

#include <hdf5.h>
#include <zlib.h>

#include <Eigen/Core>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace mobalab::experiments {
namespace {

template <typename Number>
std::string raw(Number value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
}

TestTensor sample_tensor(char letter, const std::string& type, std::int64_t layer, const std::string& name) {
    TestTensor tensor{name, type, {}, ""};
    tensor.shape = {letter == 'q' ? 6 : 9, letter == 'q' ? 4 : 2, letter == 'v' ? 5 : 8};
    for (std::int64_t row = 0; row < tensor.shape[0]; ++row) {
        for (std::int64_t head = 0; head < tensor.shape[1]; ++head) {
            for (std::int64_t channel = 0; channel < tensor.shape[2]; ++channel) {
                tensor.bytes += element(type, sample_value(letter, layer, row, head, channel));
            }
        }
    }
    return tensor;
}

void need(bool done) {
    if (!done) {
        throw std::runtime_error("the test cannot write its file");
    }
}

hid_t hdf5_type(const std::string& type) {
    if (type == "fp32") {
        return H5Tcopy(H5T_IEEE_F32LE);
    }
    if (type == "int32") {
        return H5Tcopy(H5T_STD_I32LE);
    }
    if (type == "bf16") {
        return H5Tcopy(H5T_STD_U16LE);
    }
    const hid_t half = H5Tcopy(H5T_IEEE_F32LE);  // as h5py makes it
    need(H5Tset_fields(half, 15, 10, 5, 0, 10) >= 0 && H5Tset_size(half, 2) >= 0 && H5Tset_ebias(half, 15) >= 0);
    return half;
}

hid_t dataset_properties(const TestTensor& tensor, Hdf5Layout layout) {
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    if (layout != Hdf5Layout::contiguous) {
        std::vector<hsize_t> chunk;
        for (const std::int64_t length : tensor.shape) {
            chunk.push_back(static_cast<hsize_t>(std::max<std::int64_t>(1, std::min<std::int64_t>(length, 4))));
        }
        need(H5Pset_chunk(properties, static_cast<int>(chunk.size()), chunk.data()) >= 0);
    }
    if (layout == Hdf5Layout::gzip) {
        need(H5Pset_shuffle(properties) >= 0 && H5Pset_deflate(properties, 4) >= 0);
    }
    return properties;
}

}  // namespace

TestTensor& TestTrace::tensor(const std::string& name) {
    return *std::ranges::find(tensors, name, &TestTensor::name);
}

float sample_value(char letter, std::int64_t layer, std::int64_t row, std::int64_t head, std::int64_t channel) {
    const std::int64_t place =
        (row * 4 + head) * 8 + channel;  // below 288: with the sign and the layer 8 bits in all suffice
    const auto number = static_cast<float>(letter == 'q' ? place % 251 : letter == 'k' ? -(place % 241) : place % 239);
    return number / 8.0F * static_cast<float>(layer % 2 == 0 ? 1 : 2);
}

std::string element(const std::string& type, float value) {
    return type == "fp32"   ? raw(value)
           : type == "bf16" ? raw(static_cast<Eigen::bfloat16>(value))
           : type == "fp16" ? raw(static_cast<Eigen::half>(value))
                            : raw(static_cast<std::int32_t>(value));
}

TestTrace sample_trace(kernels::DataType dtype, bool several_layers) {
    const std::string type(kernels::to_string(dtype));
    TestTrace trace;
    trace.metadata = {{"format", "qkv-trace"},
                      {"format_version", "1"},
                      {"layout", "token,head,dim"},
                      {"model", "a model"},
                      {"text", "ten words"},
                      {"layers", "12"},
                      {"query_heads", "4"},
                      {"key_heads", "2"},
                      {"head_dim", "8"},
                      {"tokens", "10"},
                      {"q_start", "3"},
                      {"k_start", "0"},
                      {"scale", "0.25"},
                      {"causal", "1"},
                      {"rope", "post"},
                      {"rope_theta", "10000"},
                      {"rope_dim", "8"},
                      {"rope_layout", "half"},
                      {"dtype", type},
                      {"needles", R"([{"city":"Lyon","query":[6,7],"key":[2,3],"fact":[1,4]}])"}};
    trace.metadata[several_layers ? "recorded_layers" : "layer"] = several_layers ? "0,5,11" : "7";
    for (const std::int64_t layer :
         several_layers ? std::vector<std::int64_t>{0, 5, 11} : std::vector<std::int64_t>{7}) {
        const std::string prefix = several_layers ? "layers." + std::to_string(layer) + "." : "";
        for (const char letter : {'q', 'k', 'v'}) {
            trace.tensors.push_back(sample_tensor(letter, type, layer, prefix + letter));
        }
    }
    trace.tensors.push_back({"token_ids", "int32", {10}, std::string(40, '\1')});
    return trace;
}

std::string safetensors_bytes(const std::string& header, const std::string& data) {
    return raw(static_cast<std::uint64_t>(header.size())) + header + data;
}

std::string safetensors_bytes(const TestTrace& trace) {
    nlohmann::json header = {{"__metadata__", trace.metadata}};
    std::string data;
    for (const TestTensor& tensor : trace.tensors) {
        const std::string type = tensor.type == "fp32"   ? "F32"
                                 : tensor.type == "bf16" ? "BF16"
                                 : tensor.type == "fp16" ? "F16"
                                                         : "I32";
        header[tensor.name] = {{"dtype", type},
                               {"shape", tensor.shape},
                               {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
        data += tensor.bytes;
    }
    return safetensors_bytes(header.dump(), data);
}

std::string npy_bytes(const std::string& descr, const std::string& shape, const std::string& data) {
    std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
    header.resize((header.size() + 11 + 63) / 64 * 64 - 11, ' ');
    header += '\n';
    return std::string("\x93NUMPY\1\0", 8) + raw(static_cast<std::uint16_t>(header.size())) + header + data;
}

std::string zip_bytes(const std::vector<std::pair<std::string, std::string>>& members, bool deflated) {
    std::string archive;
    std::string directory;
    for (const auto& [name, contents] : members) {
        std::string stored = contents;
        if (deflated) {
            uLongf size = compressBound(contents.size());
            stored.resize(size);
            compress2(reinterpret_cast<Bytef*>(stored.data()), &size, reinterpret_cast<const Bytef*>(contents.data()),
                      contents.size(), 6);
            stored = stored.substr(2, size - 6);  // zlib's header and checksum
        }
        const auto crc = static_cast<std::uint32_t>(
            crc32(0, reinterpret_cast<const Bytef*>(contents.data()), static_cast<uInt>(contents.size())));
        const std::string common = raw(std::uint16_t{20}) + raw(std::uint16_t{0}) +
                                   raw(static_cast<std::uint16_t>(deflated ? 8 : 0)) + raw(std::uint32_t{0x21}) +
                                   raw(crc) + raw(static_cast<std::uint32_t>(stored.size())) +
                                   raw(static_cast<std::uint32_t>(contents.size())) +
                                   raw(static_cast<std::uint16_t>(name.size())) + raw(std::uint16_t{0});
        directory += "PK\1\2" + raw(std::uint16_t{20}) + common + std::string(10, '\0') +
                     raw(static_cast<std::uint32_t>(archive.size())) + name;
        archive += "PK\3\4" + common + name + stored;
    }
    const auto count = static_cast<std::uint16_t>(members.size());
    return archive + directory + "PK\5\6" + std::string(4, '\0') + raw(count) + raw(count) +
           raw(static_cast<std::uint32_t>(directory.size())) + raw(static_cast<std::uint32_t>(archive.size())) +
           std::string(2, '\0');
}

std::string npz_bytes(const TestTrace& trace, bool deflated) {
    std::vector<std::pair<std::string, std::string>> members;
    for (const TestTensor& tensor : trace.tensors) {
        std::string shape = "(";
        for (const std::int64_t length : tensor.shape) {
            shape += std::to_string(length) + ",";
        }
        const std::string descr = tensor.type == "fp32"   ? "<f4"
                                  : tensor.type == "bf16" ? "<u2"
                                  : tensor.type == "fp16" ? "<f2"
                                                          : "<i4";
        members.emplace_back(tensor.name + ".npy", npy_bytes(descr, shape + ")", tensor.bytes));
    }
    const std::string text = nlohmann::json(trace.metadata).dump();
    std::string unicode;
    for (const char character : text) {
        unicode += raw(static_cast<std::uint32_t>(static_cast<unsigned char>(character)));
    }
    members.emplace_back("__metadata__.npy", npy_bytes("<U" + std::to_string(text.size()), "()", unicode));
    return zip_bytes(members, deflated);
}

void write_hdf5(const std::string& path, const TestTrace& trace, Hdf5Layout layout) {
    const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    need(file >= 0);
    for (const TestTensor& tensor : trace.tensors) {
        const std::vector<hsize_t> shape(tensor.shape.begin(), tensor.shape.end());
        const hid_t type = hdf5_type(tensor.type);
        const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
        const hid_t properties = dataset_properties(tensor, layout);
        const hid_t dataset = H5Dcreate2(file, tensor.name.c_str(), type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
        need(dataset >= 0 && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, tensor.bytes.data()) >= 0);
        need(H5Dclose(dataset) >= 0 && H5Pclose(properties) >= 0 && H5Sclose(space) >= 0 && H5Tclose(type) >= 0);
    }
    const hid_t text_type = H5Tcopy(H5T_C_S1);
    need(H5Tset_size(text_type, H5T_VARIABLE) >= 0 && H5Tset_cset(text_type, H5T_CSET_UTF8) >= 0);
    const hid_t scalar = H5Screate(H5S_SCALAR);
    for (const auto& [name, value] : trace.metadata) {
        const hid_t attribute = H5Acreate2(file, name.c_str(), text_type, scalar, H5P_DEFAULT, H5P_DEFAULT);
        const char* text = value.c_str();
        need(attribute >= 0 && H5Awrite(attribute, text_type, &text) >= 0 && H5Aclose(attribute) >= 0);
    }
    need(H5Sclose(scalar) >= 0 && H5Tclose(text_type) >= 0 && H5Fclose(file) >= 0);
}

}  // namespace mobalab::experiments
