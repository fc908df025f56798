#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/decode.h"
#include "kernels/kernels.h"

namespace mobalab::kernels {

/// One backend: the functions of kernels.h as pointers. A new backend is one file that defines its table and one line
/// in dispatch.cc.
///
/// What the dispatcher guarantees before it calls an entry, so that backends need not repeat it:
///   - the problem passed check_problem() and `limits`; available() said yes;
///   - strides are resolved: never `contiguous`, never negative; those of extents of at most 1 are as if contiguous;
///   - rows of written tensors do not overlap, nor does anything written overlap another argument;
///   - pointers that the operation needs are not null and are aligned to their elements (selection may be null where
///     routed() is 0, centroids where the scorer keeps none; scores may always be null);
///   - there is work: compute_centroids and key_conv_centroids have summaries to write (never scorer random), route*
///     has a query and routed() > 0, *_forward has a query (routed() may be 0), attention_backward, key_conv_forward
///     and key_conv_centroids have a key. attention_backward may have no queries and key_conv_backward no keys: what
///     they write is then zero;
///   - execution.workspace is 256-byte aligned and holds workspace_size() bytes, where that is not 0.
/// A `selection` that is read may hold anything: see attention_forward() in kernels.h.
///
/// An entry that is nullptr is an operation the backend does not offer; callers get StatusCode::unsupported.
struct BackendTable {
    const char* name;
    bool host_memory;  ///< pointers, cu_seqlens included, are host memory: their contents can be checked
    Status (*available)();
    Status (*limits)(Operation, const Problem&);  ///< what this backend asks beyond kernels.h (head_dim, dtype, ...)
    std::size_t (*workspace_size)(Operation, const Problem&);

    Status (*compute_centroids)(const Problem&, ConstTensor k, void* centroids, const Execution&);
    Status (*route)(const Problem&, ConstTensor q, ConstTensor k, std::int32_t* selection, float* scores,
                    const Execution&);
    Status (*route_with_centroids)(const Problem&, ConstTensor q, const void* centroids, std::int32_t* selection,
                                   float* scores, const Execution&);
    Status (*attention_forward)(const Problem&, ConstTensor q, ConstTensor k, ConstTensor v,
                                const std::int32_t* selection, Tensor out, float* lse, const Execution&);
    Status (*moba_forward)(const Problem&, ConstTensor q, ConstTensor k, ConstTensor v, Tensor out, float* lse,
                           std::int32_t* selection, const Execution&);
    Status (*attention_backward)(const Problem&, ConstTensor q, ConstTensor k, ConstTensor v, ConstTensor out,
                                 ConstTensor d_out, const float* lse, const std::int32_t* selection, Tensor dq,
                                 Tensor dk, Tensor dv, const Execution&);
    Status (*key_conv_forward)(const Problem&, ConstTensor k, const float* weight, int width, Tensor out,
                               const Execution&);
    Status (*key_conv_backward)(const Problem&, ConstTensor k, const float* weight, int width, ConstTensor d_out,
                                Tensor dk, float* d_weight, const Execution&);
    /// May be null where the two operations it fuses are offered: they then run one after the other.
    Status (*key_conv_centroids)(const Problem&, ConstTensor k, const float* weight, int width, Tensor out,
                                 void* centroids, const Execution&) = nullptr;

    /// Decoding (decode.h); moba_decode() is the three one after the other, in the same workspace. A cache's block
    /// table is null or has its page_size; append_centroids has a key to summarise and `appended` in [1, seqlen_k];
    /// decode_route has a query and routed() > 0, decode_attention a query.
    Status (*append_centroids)(const Problem&, const Cache&, ConstTensor k, std::int64_t appended, void* centroids,
                               const Execution&) = nullptr;
    Status (*decode_route)(const Problem&, const Cache&, ConstTensor q, const void* centroids, std::int32_t* selection,
                           float* scores, const Execution&) = nullptr;
    Status (*decode_attention)(const Problem&, const Cache&, ConstTensor q, ConstTensor k, ConstTensor v,
                               const std::int32_t* selection, Tensor out, float* lse, const Execution&) = nullptr;
};

const BackendTable& cpu_backend();            // cpu/backend.cc
const BackendTable& cpu_reference_backend();  // cpu/reference_backend.cc
const BackendTable& cuda_backend();           // cuda/backend.cu; no_cuda.cc in a build without CUDA

}  // namespace mobalab::kernels
