#include "sim/cuda/needle_queries.h"

#include "sim/cuda/element.cuh"
#include "sim/cuda/unit_rows.h"
#include "sim/streams/needle_query.h"

namespace mobalab::sim::cuda {
namespace {

constexpr int kThreads = 128;

/// HostTeam's twin: eight neighbours of a warp, one lane each.
class WarpTeam {
public:
    __device__ WarpTeam()
        : lane_(static_cast<int>(threadIdx.x) % kLanes),
          mask_(((1U << kLanes) - 1U) << (threadIdx.x % 32U / kLanes * kLanes)) {}

    template <class Term>
    __device__ double sum(std::int64_t count, Term term) const {
        double x = 0.0;
        for (std::int64_t e = lane_; e < count; e += kLanes) {
            x += term(e);
        }
        for (int half = kLanes / 2; half > 0; half /= 2) {
            x += __shfl_xor_sync(mask_, x, half);
        }
        return x;
    }
    template <class Body>
    __device__ void each(std::int64_t count, Body body) const {
        for (std::int64_t e = lane_; e < count; e += kLanes) {
            body(e);
        }
    }
    __device__ bool leads() const { return lane_ == 0; }
    __device__ double from_leader(double x) const {
        __syncwarp(mask_);  // what the leader wrote is seen as well
        return __shfl_sync(mask_, x, 0, kLanes);
    }
    __device__ void sync() const { __syncwarp(mask_); }

private:
    static constexpr int kLanes = static_cast<int>(kTeamLanes);
    int lane_;
    unsigned mask_;
};

using Builder = NeedleQueryBuilder<WarpTeam>;

struct Wanted {
    std::int64_t count;
    std::int64_t cluster_size;
    std::int64_t head_dim;
    double mu_signal;
    double mu_cluster;
};

template <class Element>
__global__ void __launch_bounds__(kThreads) build_kernel(Wanted wanted, const float* clusters, const float* noise,
                                                         double* memory, Element* queries, std::uint8_t* feasible) {
    const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kTeamLanes;
    if (i >= wanted.count) {
        return;
    }
    const std::int64_t d = wanted.head_dim;
    const std::int64_t m = wanted.cluster_size;
    const WarpTeam team;
    Builder builder(team, m, d, memory + i * Builder::memory_size(m, d));
    const bool kept = is_feasible(builder.fit(clusters + i * m * d, wanted.mu_signal, wanted.mu_cluster));
    if (team.leads()) {
        feasible[i] = kept ? 1 : 0;
    }
    Element* query = queries + i * d;
    const float* direction = noise + i * d;
    if (kept) {
        builder.build(direction, [=](std::int64_t e, float q) { query[e] = element_of<Element>(q); });
    } else {
        team.each(d, [=](std::int64_t e) { query[e] = element_of<Element>(direction[e]); });
    }
}

std::size_t float_bytes(const NeedleQueries& recipe) {
    return static_cast<std::size_t>((recipe.cluster_size + 1) * recipe.keys.head_dim) * sizeof(float);
}

}  // namespace

std::size_t needle_query_bytes(const NeedleQueries& recipe) {
    return static_cast<std::size_t>(Builder::memory_size(recipe.cluster_size, recipe.keys.head_dim)) * sizeof(double) +
           float_bytes(recipe);
}

template <class Element>
cudaError_t build_needle_queries(const NeedleQueries& recipe, const std::int64_t* slots, std::int64_t first,
                                 std::int64_t count, Element* queries, std::uint8_t* feasible, void* memory,
                                 cudaStream_t stream) {
    if (count <= 0) {
        return cudaSuccess;
    }
    const std::int64_t m = recipe.cluster_size;
    const std::int64_t d = recipe.keys.head_dim;
    auto* clusters = static_cast<float*>(memory);  // rows of a multiple of 16 bytes
    float* noise = clusters + count * m * d;
    auto* doubles = reinterpret_cast<double*>(noise + count * d);
    if (const cudaError_t error = fill_listed_unit_rows(recipe.keys, slots, clusters, count * m, stream)) {
        return error;
    }
    if (const cudaError_t error = fill_unit_rows(recipe.noise, first, noise, count, stream)) {
        return error;
    }
    const std::int64_t blocks = (count * kTeamLanes + kThreads - 1) / kThreads;
    build_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
        Wanted{count, m, d, recipe.mu_signal, recipe.mu_cluster}, clusters, noise, doubles, queries, feasible);
    return cudaGetLastError();
}

template cudaError_t build_needle_queries(const NeedleQueries&, const std::int64_t*, std::int64_t, std::int64_t, float*,
                                          std::uint8_t*, void*, cudaStream_t);
template cudaError_t build_needle_queries(const NeedleQueries&, const std::int64_t*, std::int64_t, std::int64_t,
                                          __nv_bfloat16*, std::uint8_t*, void*, cudaStream_t);
template cudaError_t build_needle_queries(const NeedleQueries&, const std::int64_t*, std::int64_t, std::int64_t,
                                          __half*, std::uint8_t*, void*, cudaStream_t);

}  // namespace mobalab::sim::cuda
