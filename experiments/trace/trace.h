#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace mobalab::experiments {

// Queries, keys and values that a model computed on a text: files of format qkv-trace, as safetensors, HDF5 or .npz.
// What such a file holds, name by name, is written in README.md of this folder.
//
// Opening reads names, shapes and metadata and checks all of them against each other and against the size of the file;
// numbers are read a layer and a head at a time, so memory is that of one head whatever the size of the file.

/// Queries, keys or values of one head, contiguous [rows, head_dim], in the dtype of the file, all finite.
struct HeadRows {
    kernels::DataType dtype = kernels::DataType::fp32;
    std::int64_t rows = 0;
    std::int64_t head_dim = 0;
    std::vector<std::byte> bytes;  ///< rows * head_dim elements, those of a row side by side

    /// The same numbers, exactly, as [rows, head_dim] of fp32.
    std::vector<float> to_float() const;
};

/// A fact planted in the text and the tokens that ask for it. All numbers are positions in the text, from 0.
struct TraceNeedle {
    std::vector<std::int64_t> query;  ///< the rows that should look the fact up, each a token that sees its key
    std::vector<std::int64_t> key;    ///< key[i] is the token that query[i] wants; as many as queries
    std::int64_t fact_begin = 0;      ///< the fact is tokens [fact_begin, fact_end); it need not hold the keys
    std::int64_t fact_end = 0;
    std::string name;  ///< what the file calls it (the object's `name`, or else its one other string); may be empty
};

/// What holds for every layer of a trace.
struct TraceInfo {
    std::string model;  ///< name of the model; empty: the file does not say
    std::string text;   ///< what the model read, with its licence; empty: the file does not say
    std::string rope;   ///< "post": rotated, as attention sees it; "pre": before rotation; "none": no RoPE
    std::int64_t query_heads =
        0;  ///< a multiple of key_heads: query head h reads key head h / (query_heads / key_heads)
    std::int64_t key_heads = 0;
    std::int64_t head_dim = 0;   ///< of queries and keys
    std::int64_t value_dim = 0;  ///< of values; 0 where the file has none
    std::int64_t tokens = 0;     ///< length of the text
    std::int64_t q_start = 0;    ///< position of the first row of q
    std::int64_t k_start = 0;    ///< always 0 (others are refused): a query needs every key before it
    std::int64_t queries = 0;    ///< rows of q; the last one stands at q_start + queries - 1 < keys
    std::int64_t keys = 0;       ///< rows of k and v, at positions 0 ... keys - 1; at most `tokens`
    double scale = 0.0;          ///< of q . k in the softmax, > 0
    bool causal = true;          ///< always true (others are refused)
    double rope_theta = 0.0;     ///< 0: the file does not say
    std::int64_t rope_dim = 0;   ///< 0: the file does not say
    std::string rope_layout;  ///< "half" (channel i with i + rope_dim / 2), "interleaved"; empty: the file does not say
    std::vector<TraceNeedle> needles;
    std::map<std::string, std::string> metadata;  ///< all of it, as it stands in the file
};

class TensorFile;  // of one of the three containers: tensor_file.h

class Trace {
public:
    /// Reads all but the numbers. Throws FileError: one line with the path, the value, the rule and the nearest valid
    /// choice.
    static Trace open(const std::string& path);

    const std::string& path() const { return path_; }
    const TraceInfo& info() const { return info_; }
    kernels::DataType dtype() const { return dtype_; }  ///< of all q, k and v in the file
    /// The model's numbers of the layers in the file, ascending, at least one.
    const std::vector<std::int64_t>& layers() const { return layers_; }
    bool has_values() const { return info_.value_dim > 0; }

    // One head. `layer` is one of layers(), a head counts from 0. All throw FileError: no such layer or head, a file
    // that was cut or changed since it was opened, a NaN or an infinity (with its token and channel), values where the
    // file has none.

    /// [queries, head_dim]; row r stands at position info().q_start + r.
    HeadRows queries(std::int64_t layer, std::int64_t query_head) const;
    /// [keys, head_dim]; row r stands at position r.
    HeadRows keys(std::int64_t layer, std::int64_t key_head) const;
    /// [keys, value_dim]; row r stands at position r.
    HeadRows values(std::int64_t layer, std::int64_t key_head) const;

private:
    Trace() = default;
    HeadRows head(std::int64_t layer, char name, std::int64_t head, std::int64_t heads) const;

    std::string path_;
    TraceInfo info_;
    kernels::DataType dtype_ = kernels::DataType::fp32;
    std::vector<std::int64_t> layers_;
    bool layers_in_names_ = false;            // `layers.5.q`, not `q`
    std::shared_ptr<const TensorFile> file_;  // copies of a trace read the same open file
};

}  // namespace mobalab::experiments
