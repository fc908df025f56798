#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sim/samplers/method.h"
#include "sim/samplers/trial_range.h"
#include "sim/streams/philox.h"

namespace mobalab::sim::cuda {

/// Why there is no CUDA device to draw on; empty when there is one.
std::string device_trouble();

/// Why no kernel can count the point, which has passed check_method(), by this method; empty when one can. There are
/// kernels for vector, affinity and threshold, of all models but text and all scorers but random; vectors, and what is
/// known of the keys of a block whose coordinates are scored, must fit into shared memory.
std::string kernel_trouble(const analysis::RoutingPoint& point, Method method);

/// A sampler on the current CUDA device. Draws the very trials of the CPU's sampler of the same point, method and key:
/// counts are equal bit for bit. Not for use by several threads at once.
class CudaSampler {
public:
    /// Throws analysis::InputError where there is no kernel, std::runtime_error with CUDA's words for a failure.
    CudaSampler(Method method, const analysis::RoutingPoint& point, PhiloxKey key);
    ~CudaSampler();
    CudaSampler(const CudaSampler&) = delete;
    CudaSampler& operator=(const CudaSampler&) = delete;

    /// Adds the ranks of ranges[i] to histograms[i * bins, (i + 1) * bins), as Sampler::count_ranks does.
    void count_ranks(std::span<const TrialRange> ranges, std::span<std::uint64_t> histograms, std::size_t bins);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace mobalab::sim::cuda
