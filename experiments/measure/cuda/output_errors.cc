#include "experiments/measure/cuda/output_errors.h"

#include <numbers>

#include "experiments/measure/cuda/dense_pass.h"
#include "experiments/measure/cuda/row_vectors.h"

namespace mobalab::experiments::cuda {
namespace {

/// The first setting.slots blocks of every row, as a tensor of their own.
StreamArray<std::int32_t> first_slots(const RoutedWork& routed, const SettingColumns& setting, std::int32_t rows,
                                      cudaStream_t stream) {
    StreamArray<std::int32_t> kept(std::int64_t{rows} * setting.slots, stream);
    if (setting.slots > 0) {
        const auto to = static_cast<std::size_t>(setting.slots) * sizeof(std::int32_t);
        const auto from = static_cast<std::size_t>(routed.slots) * sizeof(std::int32_t);
        check_cuda(cudaMemcpy2DAsync(kept.get(), to, routed.selection.get(), from, to, static_cast<std::size_t>(rows),
                                     cudaMemcpyDeviceToDevice, stream),
                   "copying blocks");
    }
    return kept;
}

}  // namespace

OutputErrors::OutputErrors(const DeviceHead& head, const float* lse_log2, cudaStream_t stream)
    : head_(head), stream_(stream), dense_norm_(head.rows(), stream) {
    dense_norm_.clear();
    for (const StreamArray<std::byte>& values : head.values()) {
        const StreamArray<float>& dense = dense_.emplace_back(std::int64_t{head.rows()} * head.head_dim(), stream);
        const DensePassArgs args{.rows = {.rows = head.rows(), .position = head.q_start()},
                                 .q = head.q(0),
                                 .k = head.k(),
                                 .v = values.get(),
                                 .keys = head.keys(),
                                 .scale_log2 = static_cast<float>(head.scale() * std::numbers::log2e),
                                 .lse_log2 = lse_log2,
                                 .out = dense.get()};
        check_cuda(launch_dense_pass(head.dtype(), head.head_dim(), args, stream), "dense attention");
        add_error(nullptr, dense, dense_norm_);
    }
}

void OutputErrors::add_error(const std::byte* out, const StreamArray<float>& dense,
                             const StreamArray<float>& error) const {
    const RowErrorArgs args{
        .rows = head_.rows(), .width = head_.head_dim(), .out = out, .dense = dense.get(), .error = error.get()};
    check_cuda(launch_row_error(head_.dtype(), args, stream_), "errors of outputs");
}

StreamArray<float> OutputErrors::of(const GroupWork& group, const RoutedWork& routed,
                                    const SettingColumns& setting) const {
    StreamArray<float> error(head_.rows(), stream_);
    error.clear();
    const StreamArray<std::int32_t> selection = first_slots(routed, setting, head_.rows(), stream_);
    for (std::size_t part = 0; part < dense_.size(); ++part) {
        const StreamArray<std::byte> out =
            head_.attend(group.score.block_size, setting.slots, selection.get(), head_.values()[part]);
        add_error(out.get(), dense_[part], error);
    }
    return error;
}

}  // namespace mobalab::experiments::cuda
