#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/decode.h"
#include "kernels/footprint.h"
#include "kernels/kernels.h"

namespace mobalab::kernels {

/// The rules of kernels.h for the numbers of a problem. With `host_memory` the contents of cu_seqlens are checked as
/// well. The message names the value, the rule and the nearest valid choice.
Status check_problem(Operation operation, const Problem& problem, bool host_memory);

/// Whether it weighs values, with Problem::scale.
bool attends(Operation operation);

/// [batch, tokens, heads, head_dim] of a tensor; with cu_seqlens the batch is 1.
struct Shape {
    std::int64_t batch, tokens, heads, head_dim;
    std::int64_t rows() const { return batch * tokens * heads; }
};

/// The arguments of one call: each is checked and resolved when it is named, and in the end all are held against one
/// another. Errors name the argument, the value, the rule and the nearest valid choice; the first one stays.
class Arguments {
public:
    /// workspace_bytes: what the operation uses of execution.workspace.
    Arguments(const Problem& problem, const Execution& execution, std::size_t workspace_bytes);

    /// Tensors of queries [batch, seqlen_q, heads_q, head_dim] and of keys [batch, seqlen_k, heads_k, head_dim]: their
    /// strides are filled in, those of extents of at most 1 included (as if contiguous).
    template <typename Pointer>
    Arguments& queries(const char* name, BasicTensor<Pointer>& tensor);
    template <typename Pointer>
    Arguments& keys(const char* name, BasicTensor<Pointer>& tensor);
    /// Those of queries and of keys whose rows have value_dim() elements.
    template <typename Pointer>
    Arguments& outputs(const char* name, BasicTensor<Pointer>& tensor);
    template <typename Pointer>
    Arguments& values(const char* name, BasicTensor<Pointer>& tensor);

    /// Flat arrays; null is fine where `count` is 0.
    template <typename T>
    Arguments& read(const char* name, const T* data, std::int64_t count) {
        return array(name, data, count, sizeof(T), false);
    }
    template <typename T>
    Arguments& written(const char* name, T* data, std::int64_t count) {
        return array(name, data, count, sizeof(T), true);
    }
    Arguments& array(const char* name, const void* data, std::int64_t count, std::size_t element_bytes, bool written);

    /// A tensor of keys or values as a Cache says where they stand, and the cache's own arrays.
    Arguments& cached_keys(const char* name, const Cache& cache, ConstTensor& tensor);
    Arguments& cached_values(const char* name, const Cache& cache, ConstTensor& tensor);
    Arguments& cache(const Cache& cache);

    Arguments& centroids(const void* data, bool written);
    Arguments& selection(const std::int32_t* data, bool written);
    Arguments& lse(const float* data, bool written);
    Arguments& weight(const float* data, int width);
    Arguments& d_weight(float* data, int width);

    /// The first error of all; that nothing written overlaps anything else is checked here.
    Status status() const;

private:
    Shape query_shape(std::int64_t row) const;
    Shape key_shape(std::int64_t row) const;
    Shape cache_shape(const Cache& cache, std::int64_t row) const;
    template <typename Pointer>
    Arguments& tensor(const char* name, const Shape& shape, BasicTensor<Pointer>& tensor);
    Status check_disjoint() const;

    const Problem& problem_;
    std::vector<Footprint> footprints_;
    Status status_;
};

/// Whether it is one of decode.h.
bool decodes(Operation operation);

/// The rules of decode.h for a cache; with `host_memory` the contents of its arrays are checked as well, where they are
/// not null. The problem has passed check_problem().
Status check_cache(Operation operation, const Problem& problem, const Cache& cache, bool host_memory);

Status check_execution(const Execution& execution, std::size_t workspace_needed);

inline Status invalid(std::string message) {
    return {StatusCode::invalid_argument, std::move(message)};
}

}  // namespace mobalab::kernels
