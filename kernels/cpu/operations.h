#pragma once

#include <vector>

#include "kernels/cpu/sequences.h"
#include "kernels/decode.h"
#include "kernels/kernels.h"

// The fast CPU path, one file an operation; signatures and guarantees of BackendTable.
namespace mobalab::kernels::cpu {

Status compute_centroids(const Problem& problem, ConstTensor k, void* centroids, const Execution& execution);
Status route(const Problem& problem, ConstTensor q, ConstTensor k, std::int32_t* selection, float* scores,
             const Execution& execution);
Status route_with_centroids(const Problem& problem, ConstTensor q, const void* centroids, std::int32_t* selection,
                            float* scores, const Execution& execution);
/// The same for sequences whose summaries begin at Sequence::block_begin, wherever that is.
Status route_sequences(const Problem& problem, const std::vector<Sequence>& sequences, ConstTensor q,
                       const void* centroids, std::int32_t* selection, float* scores, const Execution& execution);
Status attention_forward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v,
                         const std::int32_t* selection, Tensor out, float* lse, const Execution& execution);
Status attention_backward(const Problem& problem, ConstTensor q, ConstTensor k, ConstTensor v, ConstTensor out,
                          ConstTensor d_out, const float* lse, const std::int32_t* selection, Tensor dq, Tensor dk,
                          Tensor dv, const Execution& execution);
Status key_conv_forward(const Problem& problem, ConstTensor k, const float* weight, int width, Tensor out,
                        const Execution& execution);
Status key_conv_backward(const Problem& problem, ConstTensor k, const float* weight, int width, ConstTensor d_out,
                         Tensor dk, float* d_weight, const Execution& execution);
Status append_centroids(const Problem& problem, const Cache& cache, ConstTensor k, std::int64_t appended,
                        void* centroids, const Execution& execution);
Status decode_route(const Problem& problem, const Cache& cache, ConstTensor q, const void* centroids,
                    std::int32_t* selection, float* scores, const Execution& execution);
Status decode_attention(const Problem& problem, const Cache& cache, ConstTensor q, ConstTensor k, ConstTensor v,
                        const std::int32_t* selection, Tensor out, float* lse, const Execution& execution);

}  // namespace mobalab::kernels::cpu
