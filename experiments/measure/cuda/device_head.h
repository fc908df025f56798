#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "experiments/measure/cuda/score_pass.h"
#include "experiments/measure/cuda/stream_array.h"
#include "experiments/measure/head_outcomes.h"
#include "experiments/measure/head_tensors.h"
#include "experiments/measure/router.h"
#include "kernels/kernels.h"

namespace mobalab::experiments::cuda {

/// What scores of blocks are products of: args.summaries points into `elements`.
struct DeviceSummaries {
    StreamArray<std::byte> elements;
    ScorePassArgs args;  ///< all but the window, q, and where scores go
};

/// One head on the device, and the kernels over it. Enqueues on the stream and throws KernelError.
class DeviceHead {
public:
    /// Keys behind the last row stay on the host.
    DeviceHead(const HeadTensors& head, std::uint64_t seed, cudaStream_t stream);

    kernels::DataType dtype() const { return dtype_; }
    std::int32_t head_dim() const { return head_dim_; }
    std::int32_t rows() const { return rows_; }
    std::int32_t q_start() const { return q_start_; }
    std::int32_t keys() const { return q_start_ + rows_; }
    double scale() const { return scale_; }
    const std::byte* q(std::int32_t row) const { return q_.get() + row * row_bytes(); }
    const std::byte* k() const { return k_.get(); }
    /// Values as wide as the keys: columns of others come in as many parts, the last one filled up with zeros.
    const std::vector<StreamArray<std::byte>>& values() const { return values_; }

    /// Slots of a row: blocks that a row can keep beside its own, at most topk - 1.
    std::int32_t slots(std::int64_t block_size, std::int64_t topk) const;
    /// Blocks that the last row has as candidates, at least 1.
    std::int32_t blocks(std::int64_t block_size) const;

    /// Routes as kernels::route() does: [rows, slots()], and where the scorer keeps something of the keys that, for
    /// scores of all blocks.
    StreamArray<std::int32_t> route(const Router& router, const ScoreSetting& setting, bool keep_first,
                                    std::int64_t topk) const;
    DeviceSummaries summaries(const Router& router, const ScoreSetting& setting) const;
    /// Of unrounded means, for a scorer of means.
    DeviceSummaries unrounded_summaries(const ScoreSetting& setting) const;

    /// [rows, head_dim] of one part of the values, attention over own and selected blocks; selection: [rows, slots].
    StreamArray<std::byte> attend(std::int64_t block_size, std::int32_t slots, const std::int32_t* selection,
                                  const StreamArray<std::byte>& values) const;

private:
    std::int64_t row_bytes() const { return std::int64_t{2} * head_dim_; }
    kernels::Problem problem(std::int64_t block_size, std::int64_t topk) const;
    kernels::Problem problem(const Router& router, const ScoreSetting& setting, std::int64_t topk) const;
    StreamArray<std::byte> centroids(const kernels::Problem& problem) const;
    StreamArray<std::byte> workspace(kernels::Operation operation, const kernels::Problem& problem) const;
    kernels::Execution execution(const StreamArray<std::byte>& workspace) const;
    void upload_values(const HeadRows& v);
    void scale_queries();

    kernels::DataType dtype_;
    std::int32_t head_dim_, rows_, q_start_;
    double scale_;
    std::uint64_t seed_;
    cudaStream_t stream_;
    StreamArray<std::byte> q_, k_;
    StreamArray<std::byte> attention_q_;  ///< q times scale head_dim^1/2, where that is not 1
    std::vector<StreamArray<std::byte>> values_;
};

}  // namespace mobalab::experiments::cuda
