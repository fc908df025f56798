#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace mobalab::experiments {

// Writers of traces, and of files that only look like one. They know the containers from their documents, not from the
// readers.

/// A tensor to write, under any name and with any shape.
struct TestTensor {
    std::string name;
    std::string type;  ///< "fp32", "bf16", "fp16", "int32"
    std::vector<std::int64_t> shape;
    std::string bytes;
};

struct TestTrace {
    std::vector<TestTensor> tensors;
    std::map<std::string, std::string> metadata;

    TestTensor& tensor(const std::string& name);
};

/// q [6, 4, 8] from token 3 on, k and v [9, 2, 8] and [9, 2, 5] of a text of 10 tokens, multiples of 1/8 that
/// every dtype holds. One layer (number 7 of 12), or layers 0, 5 and 11.
TestTrace sample_trace(kernels::DataType dtype, bool several_layers);

/// What sample_trace has at (row, head, channel) of q, k or v.
float sample_value(char letter, std::int64_t layer, std::int64_t row, std::int64_t head, std::int64_t channel);

/// The element of a dtype with this value, little-endian.
std::string element(const std::string& type, float value);

std::string safetensors_bytes(const TestTrace& trace);
/// With any header.
std::string safetensors_bytes(const std::string& header, const std::string& data);

std::string npy_bytes(const std::string& descr, const std::string& shape, const std::string& data);
/// numpy.savez of members; deflated: savez_compressed.
std::string zip_bytes(const std::vector<std::pair<std::string, std::string>>& members, bool deflated);
std::string npz_bytes(const TestTrace& trace, bool deflated);

enum class Hdf5Layout { contiguous, chunked, gzip };
void write_hdf5(const std::string& path, const TestTrace& trace, Hdf5Layout layout);

}  // namespace mobalab::experiments
