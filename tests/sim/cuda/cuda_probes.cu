#include "tests/sim/cuda/cuda_probes.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <curand_kernel.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <stdexcept>
#include <string>

#include "sim/cuda/fill_gaussian.h"
#include "sim/cuda/needle_queries.h"
#include "sim/cuda/unit_rows.h"
#include "sim/streams/transforms.h"

namespace mobalab::sim::testing {
namespace {

void check(cudaError_t error) {
    if (error != cudaSuccess) {
        throw std::runtime_error(std::string("CUDA probe: ") + cudaGetErrorString(error));
    }
}

template <class T>
std::vector<T> fetch(T* device, std::size_t count) {
    std::vector<T> host(count);
    check(cudaMemcpy(host.data(), device, count * sizeof(T), cudaMemcpyDeviceToHost));
    check(cudaFree(device));
    return host;
}

template <class T>
T* device_array(std::size_t count) {
    T* data = nullptr;
    check(cudaMalloc(&data, count * sizeof(T)));
    check(cudaMemset(data, 0, count * sizeof(T)));
    return data;
}

__global__ void words_kernel(std::uint32_t* out, std::uint64_t seed, std::uint64_t subsequence, std::uint64_t offset,
                             int count) {
    curandStatePhilox4_32_10_t state;
    curand_init(seed, subsequence, offset, &state);
    for (int i = 0; i < count; ++i) {
        out[i] = curand(&state);
    }
}

__global__ void sqrt_kernel(unsigned long long* wrong, std::uint32_t first, std::uint32_t count) {
    const std::uint32_t step = gridDim.x * blockDim.x;
    unsigned long long mine = 0;
    for (std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        const float x = __uint_as_float(first + i);
        mine += __float_as_uint(Ops<float>::sqrt(x)) != __float_as_uint(__fsqrt_rn(x)) ? 1 : 0;
    }
    if (mine != 0) {
        atomicAdd(wrong, mine);
    }
}

}  // namespace

std::vector<std::uint32_t> curand_words(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t offset,
                                        int count) {
    auto* words = device_array<std::uint32_t>(static_cast<std::size_t>(count));
    words_kernel<<<1, 1>>>(words, seed, subsequence, offset, count);
    check(cudaGetLastError());
    return fetch(words, static_cast<std::size_t>(count));
}

std::vector<float> device_gaussians(std::int64_t count, PhiloxKey key, std::uint64_t subsequence,
                                    std::uint64_t first_draw) {
    auto* z = device_array<float>(static_cast<std::size_t>(count));
    check(cuda::fill_gaussian(z, count, key, subsequence, first_draw, nullptr));
    return fetch(z, static_cast<std::size_t>(count));
}

namespace {

template <class Element>
std::vector<float> rows_as(const UnitRows& rows, std::int64_t first, std::int64_t count) {
    const auto size = static_cast<std::size_t>(count * rows.head_dim);
    auto* out = device_array<Element>(size);
    check(cuda::fill_unit_rows(rows, first, out, count, nullptr));
    std::vector<float> values;
    for (const Element x : fetch(out, size)) {
        values.push_back(static_cast<float>(x));
    }
    return values;
}

}  // namespace

DeviceRows device_unit_rows(const UnitRows& rows, std::int64_t first, std::int64_t count) {
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
    std::iota(numbers.rbegin(), numbers.rend(), first);
    auto* listed = device_array<std::int64_t>(numbers.size());
    check(cudaMemcpy(listed, numbers.data(), numbers.size() * sizeof(std::int64_t), cudaMemcpyHostToDevice));
    auto* reversed = device_array<float>(static_cast<std::size_t>(count * rows.head_dim));
    check(cuda::fill_listed_unit_rows(rows, listed, reversed, count, nullptr));
    DeviceRows result{rows_as<float>(rows, first, count), rows_as<__nv_bfloat16>(rows, first, count),
                      rows_as<__half>(rows, first, count),
                      fetch(reversed, static_cast<std::size_t>(count * rows.head_dim))};
    check(cudaFree(listed));
    return result;
}

DeviceQueries device_needle_queries(const NeedleQueries& recipe, std::int64_t at_once) {
    const std::int64_t count = recipe.count();
    auto* slots = device_array<std::int64_t>(recipe.slots.size());
    check(cudaMemcpy(slots, recipe.slots.data(), recipe.slots.size() * sizeof(std::int64_t), cudaMemcpyHostToDevice));
    auto* queries = device_array<float>(static_cast<std::size_t>(count * recipe.keys.head_dim));
    auto* feasible = device_array<std::uint8_t>(static_cast<std::size_t>(count));
    auto* memory = device_array<char>(static_cast<std::size_t>(at_once) * cuda::needle_query_bytes(recipe));
    for (std::int64_t first = 0; first < count; first += at_once) {
        check(cuda::build_needle_queries(recipe, slots + first * recipe.cluster_size, first,
                                         std::min(at_once, count - first), queries + first * recipe.keys.head_dim,
                                         feasible + first, memory, nullptr));
    }
    DeviceQueries result{fetch(queries, static_cast<std::size_t>(count * recipe.keys.head_dim)),
                         fetch(feasible, static_cast<std::size_t>(count))};
    check(cudaFree(slots));
    check(cudaFree(memory));
    return result;
}

SqrtCheck check_device_sqrt(float low, float high) {
    auto* wrong = device_array<unsigned long long>(1);
    const auto first = std::bit_cast<std::uint32_t>(low);
    const std::uint32_t count = std::bit_cast<std::uint32_t>(high) - first + 1;
    sqrt_kernel<<<2048, 256>>>(wrong, first, count);
    check(cudaGetLastError());
    return {fetch(wrong, 1)[0], count};
}

}  // namespace mobalab::sim::testing
