#pragma once

#include "sim/cuda/launches.h"
#include "sim/cuda/philox.cuh"
#include "sim/streams/transforms.h"
#include "sim/streams/vector_rows.h"

namespace mobalab::sim::cuda {
namespace {

constexpr int kThreads = 256;  ///< of a thread block that fills a tile
constexpr int kWarps = kThreads / 32;

/// Affinities of a tile by the law of one affinity: two tokens a Philox block.
struct AffinityKeys {
    static __device__ void begin_trial(const KeyTrials&, std::uint64_t) {}

    static __device__ void fill(std::int32_t* out, std::uint32_t count, const KeyTrials& trials, std::uint64_t trial,
                                std::uint64_t first_token) {
        for (std::uint32_t i = threadIdx.x; 2 * i < count; i += kThreads) {
            const Words w = device_philox(trials.key, trial, first_token / 2 + i);
            out[2 * i] = affinity(w.x[0], w.x[1], trials.exponent);
            out[2 * i + 1] = affinity(w.x[2], w.x[3], trials.exponent);
        }
    }
};

/// QuadOperands of sim/streams/vector_rows.h, coordinates in their own order.
struct Quad {
    std::uint32_t x2, x3, unused[2];
    float coords[4];
};

extern __shared__ Quad shared_quads[];  ///< one a quad, then the squared radii of the query

/// Dynamic shared memory they take. Whole 16 bytes of squared radii: the compiler reads them four at a time and looks
/// at two where there are no more.
__host__ __device__ inline std::size_t vector_operand_bytes(std::int64_t head_dim) {
    const auto quads = static_cast<std::size_t>((head_dim + 3) / 4);
    return quads * sizeof(Quad) + (quads + 1) / 2 * 4 * sizeof(float);
}

/// Affinities of a tile by real vectors: one key a thread (sim/streams/vector_rows.h).
struct VectorKeys {
    static __device__ void begin_trial(const KeyTrials& trials, std::uint64_t trial) {
        const auto quads = static_cast<std::uint32_t>((trials.head_dim + 3) / 4);
        Quad* quad = shared_quads;
        float* squares = reinterpret_cast<float*>(quad + quads);  // [quads][2]
        const auto round1_high = static_cast<std::uint32_t>(
            (static_cast<std::uint64_t>(static_cast<std::uint32_t>(trial)) * kPhiloxM1) >> 32U);
        for (std::uint32_t j = threadIdx.x; j < quads; j += kThreads) {
            const Words w = device_philox(trials.key, trial, static_cast<std::uint64_t>(j) << 32U);
            const std::int64_t left = trials.head_dim - 4 * static_cast<std::int64_t>(j);
            for (int pair = 0; pair < 2; ++pair) {
                const PolarPairOf<float> polar = polar_normal_pair(w.x[2 * pair], w.x[2 * pair + 1]);
                const float first = polar.radius * polar.cos;
                const std::int64_t used = left - 2 * pair;
                quad[j].coords[2 * pair] = used >= 1 ? first : 0.0F;
                quad[j].coords[2 * pair + 1] = used >= 2 ? polar.radius * polar.sin : 0.0F;
                squares[2 * j + pair] = used >= 2 ? polar.squared_radius : used == 1 ? first * first : 0.0F;
            }
            const std::uint64_t product = static_cast<std::uint64_t>(round1_high ^ j ^ trials.key.lo) * kPhiloxM0;
            quad[j].x2 = static_cast<std::uint32_t>(product >> 32U) ^ (trials.key.hi + kPhiloxW1);
            quad[j].x3 = static_cast<std::uint32_t>(product);
        }
        __syncthreads();
        float norm2[2] = {0.0F, 0.0F};
        for (std::uint32_t j = 0; j < quads; ++j) {
            norm2[0] += squares[2 * j];
            norm2[1] += squares[2 * j + 1];
        }
        const float norm = std::sqrt(norm2[0] + norm2[1]);
        for (std::uint32_t j = threadIdx.x; j < quads; j += kThreads) {
            for (float& x : quad[j].coords) {
                x /= norm;
            }
        }
        __syncthreads();
    }

    static __device__ void fill(std::int32_t* out, std::uint32_t count, const KeyTrials& trials, std::uint64_t trial,
                                std::uint64_t first_token) {
        for (std::uint32_t i = threadIdx.x; i < count; i += kThreads) {
            out[i] = key_affinity(trials, trial, static_cast<std::uint32_t>(1 + first_token + i));
        }
    }

private:
    static __device__ __forceinline__ std::int32_t key_affinity(const KeyTrials& trials, std::uint64_t trial,
                                                                std::uint32_t row) {
        const PhiloxKey key = trials.key;
        // The state after three rounds but for the parts of the quad (sim/simd/vector_affinities.h).
        const std::uint32_t x1_after_1 = static_cast<std::uint32_t>(trial) * kPhiloxM1;
        const std::uint64_t product0 = static_cast<std::uint64_t>(row) * kPhiloxM0;
        const std::uint32_t x2_after_1 =
            static_cast<std::uint32_t>(product0 >> 32U) ^ static_cast<std::uint32_t>(trial >> 32U) ^ key.hi;
        const auto x2_after_2 = static_cast<std::uint32_t>(product0);
        const std::uint64_t product1 = static_cast<std::uint64_t>(x2_after_1) * kPhiloxM1;
        const std::uint32_t x0_after_2 =
            static_cast<std::uint32_t>(product1 >> 32U) ^ x1_after_1 ^ (key.lo + kPhiloxW0);
        const std::uint32_t x0_after_3 = static_cast<std::uint32_t>(product1) ^ (key.lo + 2 * kPhiloxW0);
        const std::uint64_t product = static_cast<std::uint64_t>(x0_after_2) * kPhiloxM0;
        const std::uint32_t x2_after_3 = static_cast<std::uint32_t>(product >> 32U) ^ (key.hi + 2 * kPhiloxW1);
        const auto x3_after_3 = static_cast<std::uint32_t>(product);

        float dot[2] = {0.0F, 0.0F};
        float norm2[2] = {0.0F, 0.0F};
        const auto polar_pairs = [&](const Quad& quad, PolarPairOf<float>(&polar)[2]) {
            const std::uint64_t third = static_cast<std::uint64_t>(x2_after_2 ^ quad.x2) * kPhiloxM1;
            Words w = {{static_cast<std::uint32_t>(third >> 32U) ^ x0_after_3, static_cast<std::uint32_t>(third),
                        x2_after_3 ^ quad.x3, x3_after_3}};
            philox_rounds<3>(w, key);
            for (int pair = 0; pair < 2; ++pair) {
                polar[pair] = polar_normal_pair(w.x[2 * pair], w.x[2 * pair + 1]);
                const float along =
                    std::fma(polar[pair].sin, quad.coords[2 * pair + 1], polar[pair].cos * quad.coords[2 * pair]);
                dot[pair] = std::fma(polar[pair].radius, along, dot[pair]);
            }
        };
        const auto whole = static_cast<std::uint32_t>(trials.head_dim / 4);
        const Quad* quads = shared_quads;
        PolarPairOf<float> polar[2];
#pragma unroll 2
        for (std::uint32_t j = 0; j < whole; ++j) {
            polar_pairs(quads[j], polar);
            norm2[0] += polar[0].squared_radius;
            norm2[1] += polar[1].squared_radius;
        }
        const auto used = static_cast<std::uint32_t>(trials.head_dim % 4);
        if (used != 0) {
            polar_pairs(quads[whole], polar);
            const float first[2] = {polar[0].radius * polar[0].cos, polar[1].radius * polar[1].cos};
            norm2[0] += used >= 2 ? polar[0].squared_radius : first[0] * first[0];
            norm2[1] += used == 3 ? first[1] * first[1] : 0.0F;
        }
        return static_cast<std::int32_t>((dot[0] + dot[1]) / std::sqrt(norm2[0] + norm2[1]) * kAffinityScale);
    }
};

/// Adds a trial of this rank to its segment's histogram.
__device__ inline void count_device_rank(const SegmentList& list, const Segment& segment, std::uint32_t rank) {
    atomicAdd(&list.histograms[static_cast<std::size_t>(segment.histogram) * list.bins + min(rank, list.bins - 1)], 1U);
}

}  // namespace
}  // namespace mobalab::sim::cuda
