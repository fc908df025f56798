// Rates of the CUDA sampler on one device, each beside the instruction issue rate of the machine: trials of launches of
// about 0.1 s, medians of `repeats` launches, kernel time by events.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "sim/cuda/engine.h"
#include "sim/engine/engine.h"
#include "sim/samplers/sampler.h"

namespace {

using namespace mobalab::sim;

struct Case {
    Method method;
    std::int64_t head_dim, block_size, candidates;
    double numbers;  ///< random numbers consumed a trial: normals, affinities, compared blocks
    const char* unit;
    std::int64_t needles = 1;
    double key_correlation = 0.0;
    std::int64_t key_conv = 0;
    mobalab::analysis::Activation activation = mobalab::analysis::Activation::silu;
};

double seconds_of(cuda::CudaSampler& sampler, std::uint64_t first, std::uint64_t trials) {
    const TrialRange range{first, first + trials};
    std::vector<std::uint64_t> histogram(512);
    cudaEvent_t start;
    cudaEvent_t stop;
    cudaEventCreate(&start);
    cudaEventCreate(&stop);
    cudaEventRecord(start);
    sampler.count_ranks(std::span(&range, 1), histogram, histogram.size());
    cudaEventRecord(stop);
    cudaEventSynchronize(stop);
    float ms = 0.0F;
    cudaEventElapsedTime(&ms, start, stop);
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
    return 1e-3 * static_cast<double>(ms);
}

void run(const Case& c, int repeats) {
    mobalab::analysis::RoutingPoint point;
    point.head_dim = c.head_dim;
    point.block_size = c.block_size;
    point.candidates = c.candidates;
    point.mu_signal = 0.9;
    point.needles = c.needles;
    point.key_correlation = c.key_correlation;
    point.key_conv = c.key_conv;
    point.key_conv_activation = c.activation;
    cuda::CudaSampler sampler(c.method, point, stream_key(1, stream_identity(point, c.method)));
    std::uint64_t trials = 4096;
    std::uint64_t next = 0;
    double seconds = seconds_of(sampler, next, trials);
    while (seconds < 0.05) {
        next += trials;
        trials *= seconds < 0.005 ? 8 : 2;
        seconds = seconds_of(sampler, next, trials);
    }
    std::vector<double> times;
    for (int i = 0; i < repeats; ++i) {
        next += trials;
        times.push_back(seconds_of(sampler, next, trials));
    }
    std::sort(times.begin(), times.end());
    const double rate = static_cast<double>(trials) / times[times.size() / 2];
    std::printf("%-10.*s d=%-4ld B=%-4ld n=%-5ld R=%-2ld rho=%-4g W=%ld %-4s %10.4g trials/s %10.4g %s/s\n",
                static_cast<int>(to_string(c.method).size()), to_string(c.method).data(), static_cast<long>(c.head_dim),
                static_cast<long>(c.block_size), static_cast<long>(c.candidates), static_cast<long>(c.needles),
                c.key_correlation, static_cast<long>(c.key_conv), c.key_conv > 0 ? to_string(c.activation).data() : "",
                rate, rate * c.numbers, c.unit);
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    const int repeats = argc > 1 ? static_cast<int>(std::strtol(argv[1], nullptr, 10)) : 5;
    const std::string trouble = cuda::device_trouble();
    if (!trouble.empty()) {
        std::fprintf(stderr, "cuda_sim_bench: %s\n", trouble.c_str());
        return 1;
    }
    cudaDeviceProp device;
    cudaGetDeviceProperties(&device, 0);
    int khz = 0;
    cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, 0);
    std::printf("%s, %d SMs at up to %.0f MHz: %.3g thread instructions/s\n", device.name, device.multiProcessorCount,
                1e-3 * khz, 128.0 * device.multiProcessorCount * 1e3 * khz);
    constexpr auto kLinear = mobalab::analysis::Activation::none;
    const std::vector<Case> cases = {{Method::vector, 64, 16, 64, 64.0 * 16 * 64, "normals"},
                                     {Method::vector, 64, 16, 1024, 64.0 * 16 * 1024, "normals"},
                                     {Method::vector, 128, 64, 64, 128.0 * 64 * 64, "normals"},
                                     {Method::affinity, 64, 16, 64, 16.0 * 64, "keys"},
                                     {Method::affinity, 64, 16, 1024, 16.0 * 1024, "keys"},
                                     {Method::affinity, 128, 512, 63, 512.0 * 63, "keys"},
                                     {Method::threshold, 64, 16, 64, 64.0, "blocks"},
                                     {Method::threshold, 64, 16, 1024, 1024.0, "blocks"},
                                     {Method::vector, 64, 16, 1024, 64.0 * 16 * 1024, "normals", 4},
                                     {Method::affinity, 64, 16, 1024, 16.0 * 1024, "keys", 4},
                                     {Method::vector, 64, 16, 1024, 64.0 * 16 * 1024, "normals", 1, 0.1},
                                     {Method::affinity, 64, 16, 1024, 16.0 * 1024, "keys", 1, 0.1},
                                     {Method::vector, 64, 16, 1024, 64.0 * 16 * 1024, "normals", 1, 0.0, 3},
                                     {Method::vector, 64, 16, 1024, 64.0 * 16 * 1024, "normals", 1, 0.0, 3, kLinear},
                                     {Method::affinity, 64, 16, 1024, 16.0 * 1024, "keys", 1, 0.0, 3, kLinear}};
    for (const Case& c : cases) {
        run(c, repeats);
    }
    return 0;
}
