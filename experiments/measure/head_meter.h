#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "experiments/measure/head_outcomes.h"
#include "experiments/measure/head_tensors.h"
#include "kernels/kernels.h"

namespace mobalab::experiments {

/// What routing loses on real queries and keys: routes through the real kernels and holds the softmax beside it, in
/// windows of rows, never a [rows, keys] matrix.
class HeadMeter {
public:
    virtual ~HeadMeter() = default;

    virtual std::string device() const = 0;     ///< "cpu", "cuda"
    virtual std::string processor() const = 0;  ///< its name

    /// Rows that one call should be given: memory for outcomes grows with it, and work shared by rows is done once a
    /// call.
    virtual std::int64_t rows_a_call() const = 0;

    /// Why this device cannot measure one of the settings with tensors of this dtype and head_dim; empty: it can.
    virtual std::string trouble(std::span<const RouteSetting> settings, kernels::DataType dtype,
                                std::int64_t head_dim) const = 0;

    /// Outcomes of all settings, which are different from one another. Scorer `random` routes with `seed`. Routing runs
    /// in the dtype of the tensors, sums of q . k at least in fp32, attention for output errors in fp32 on the CPU and
    /// in the dtype of the tensors on cuda. Where scale is not head_dim^-1/2, the queries of that attention are
    /// multiplied by scale head_dim^1/2. Throws KernelError when a kernel refuses or fails. Not thread-safe.
    virtual HeadOutcomes measure(const HeadTensors& head, std::span<const RouteSetting> settings,
                                 std::uint64_t seed) = 0;
};

/// On `threads` threads, 0: all.
std::unique_ptr<HeadMeter> cpu_head_meter(int threads);

/// On this process's CUDA device. Throws KernelError where this build or machine has none.
std::unique_ptr<HeadMeter> cuda_head_meter();

}  // namespace mobalab::experiments
