#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "experiments/measure/cuda/device_head.h"
#include "experiments/measure/cuda/group_work.h"

namespace mobalab::experiments::cuda {

/// Dense attention of a head with values, and what routed attention makes of it.
class OutputErrors {
public:
    /// lse_log2: [rows], see RowPassArgs.
    OutputErrors(const DeviceHead& head, const float* lse_log2, cudaStream_t stream);

    const StreamArray<float>& dense_norm() const { return dense_norm_; }  ///< [rows]: HeadOutcomes::dense_norm

    /// RowOutcomes::output_error of a setting: [rows].
    StreamArray<float> of(const GroupWork& group, const RoutedWork& routed, const SettingColumns& setting) const;

private:
    void add_error(const std::byte* out, const StreamArray<float>& dense, const StreamArray<float>& error) const;

    const DeviceHead& head_;
    cudaStream_t stream_;
    std::vector<StreamArray<float>> dense_;  ///< [rows, head_dim] of each part of the values
    StreamArray<float> dense_norm_;
};

}  // namespace mobalab::experiments::cuda
