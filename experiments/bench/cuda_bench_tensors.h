#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "experiments/bench/bench.h"
#include "experiments/device/cuda_resources.h"

namespace mobalab::experiments {

/// Inputs and results of one forward pass on the device.
struct CudaBenchSet {
    DeviceMemory q, k, v, d_out, out, lse, selection;
};

/// Everything the CUDA kernels are timed on: unit rows drawn on the host. Sets take turns, so many of them that a
/// tensor has left the second-level cache when its turn comes again (one is enough once a tensor is far larger than the
/// cache).
class CudaBenchTensors {
public:
    /// Throws KernelError. Gradients are allocated where `with_gradients`.
    CudaBenchTensors(const BenchShape& shape, bool with_gradients);

    void route(CudaBenchSet& set, float* scores);  ///< scores may be null
    void select(CudaBenchSet& set) { route(set, nullptr); }
    void attend(CudaBenchSet& set);
    void forward(CudaBenchSet& set);
    void backward(CudaBenchSet& set);
    void pool(CudaBenchSet& set);
    void conv_forward(CudaBenchSet& set);
    void conv_backward(CudaBenchSet& set);
    /// Every set's results, the first one's scores and gradients among them; waits for them.
    void compute_all(float* scores, bool with_gradients);
    void copy();  ///< copy_bytes from one place of the device to another

    CudaBenchSet& next() { return sets_[turn_++ % sets_.size()]; }
    CudaBenchSet& first() { return sets_.front(); }
    const CudaBenchSet& first() const { return sets_.front(); }

    /// Time between two events around `run`, on the stream of all functions above.
    double seconds(const std::function<void()>& run) const;

    static constexpr std::size_t copy_bytes = std::size_t{1} << 29;  // ten times the second-level cache

    const BenchShape shape;
    const kernels::Problem problem;
    const std::size_t tensor_bytes;
    const std::size_t selection_bytes;
    CudaStream stream;
    DeviceMemory dq, dk, dv;

private:
    kernels::Execution with_workspace(kernels::Operation operation);

    DeviceMemory workspace_, centroids_, conv_weight_, d_conv_weight_, copy_from_, copy_to_;
    std::vector<CudaBenchSet> sets_;
    std::size_t turn_ = 0;
    CudaEvent start_, stop_;
};

inline constexpr int bench_conv_width = 4;

/// Compares a sample of the first set's results (last head of the last sequence: a window of queries in the middle and
/// one at the end; gradients of the last block) with the CPU backend on the same 16-bit tensors. `scores`: of route().
/// Throws KernelError naming the first result that differs by more than rounding.
void check_cuda_bench(const CudaBenchTensors& tensors, const DeviceMemory& scores, bool with_gradients);

}  // namespace mobalab::experiments
