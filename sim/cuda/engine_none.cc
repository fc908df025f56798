// A build without nvcc: there is no device.
#include "sim/cuda/engine.h"

#include <stdexcept>

namespace mobalab::sim::cuda {

struct CudaSampler::State {};

std::string device_trouble() {
    return "this program was built without CUDA";
}

std::string kernel_trouble(const analysis::RoutingPoint&, Method) {
    return device_trouble();
}

CudaSampler::CudaSampler(Method, const analysis::RoutingPoint&, PhiloxKey) {
    throw std::runtime_error(device_trouble());
}

CudaSampler::~CudaSampler() = default;

void CudaSampler::count_ranks(std::span<const TrialRange>, std::span<std::uint64_t>, std::size_t) {
    throw std::runtime_error(device_trouble());
}

}  // namespace mobalab::sim::cuda
