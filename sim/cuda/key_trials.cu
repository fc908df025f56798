#include "sim/cuda/launches.h"
#include "sim/cuda/philox.cuh"
#include "sim/transforms.h"
#include "sim/vector_rows.h"

namespace mobalab::sim::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr std::uint32_t kTile = 1024;  ///< tokens whose affinities are held at once

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

/// QuadOperands of sim/vector_rows.h, coordinates in their own order.
struct Quad {
    std::uint32_t x2, x3, unused[2];
    float coords[4];
};

extern __shared__ Quad shared_quads[];  ///< one a quad, then the squared radii of the query

/// Affinities of a tile by real vectors: one key a thread (sim/vector_rows.h).
struct VectorKeys {
    static __device__ void begin_trial(const KeyTrials& trials, std::uint64_t trial) {
        const auto quads = static_cast<std::uint32_t>((trials.head_dim + 3) / 4);
        Quad* quad = shared_quads;
        float* squares = reinterpret_cast<float*>(quad + quads);  // [quads][2]
        const auto round1_high =
            static_cast<std::uint32_t>((static_cast<std::uint64_t>(static_cast<std::uint32_t>(trial)) * kM1) >> 32U);
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
            const std::uint64_t product = static_cast<std::uint64_t>(round1_high ^ j ^ trials.key.lo) * kM0;
            quad[j].x2 = static_cast<std::uint32_t>(product >> 32U) ^ (trials.key.hi + kW1);
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
        const std::uint32_t x1_after_1 = static_cast<std::uint32_t>(trial) * kM1;
        const std::uint64_t product0 = static_cast<std::uint64_t>(row) * kM0;
        const std::uint32_t x2_after_1 =
            static_cast<std::uint32_t>(product0 >> 32U) ^ static_cast<std::uint32_t>(trial >> 32U) ^ key.hi;
        const auto x2_after_2 = static_cast<std::uint32_t>(product0);
        const std::uint64_t product1 = static_cast<std::uint64_t>(x2_after_1) * kM1;
        const std::uint32_t x0_after_2 = static_cast<std::uint32_t>(product1 >> 32U) ^ x1_after_1 ^ (key.lo + kW0);
        const std::uint32_t x0_after_3 = static_cast<std::uint32_t>(product1) ^ (key.lo + 2 * kW0);
        const std::uint64_t product = static_cast<std::uint64_t>(x0_after_2) * kM0;
        const std::uint32_t x2_after_3 = static_cast<std::uint32_t>(product >> 32U) ^ (key.hi + 2 * kW1);
        const auto x3_after_3 = static_cast<std::uint32_t>(product);

        float dot[2] = {0.0F, 0.0F};
        float norm2[2] = {0.0F, 0.0F};
        const auto polar_pairs = [&](const Quad& quad, PolarPairOf<float>(&polar)[2]) {
            const std::uint64_t third = static_cast<std::uint64_t>(x2_after_2 ^ quad.x2) * kM1;
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

/// Ranks of a segment's trials, one trial after the other by the whole thread block.
template <class Keys>
__global__ void __launch_bounds__(kThreads) key_trials_kernel(KeyTrials trials, SegmentList list) {
    __shared__ std::int32_t affinities[kTile];
    __shared__ std::int64_t sums[kTile];
    __shared__ std::uint32_t above_of_warp[kWarps];
    const Segment segment = list.segments[blockIdx.x];
    const std::uint64_t tokens = static_cast<std::uint64_t>(trials.candidates) * trials.block_size;
    const std::uint32_t warp = threadIdx.x / 32;
    const std::uint32_t lane = threadIdx.x % 32;

    for (std::uint32_t t = 0; t < segment.trials; ++t) {
        const std::uint64_t trial = segment.first_trial + t;
        Keys::begin_trial(trials, trial);
        std::int64_t carry = 0;   // of the block the tile began in
        std::int64_t signal = 0;  // score of the signal block, once complete
        std::uint32_t above = 0;
        for (std::uint64_t begin = 0; begin < tokens; begin += kTile) {
            const auto count = static_cast<std::uint32_t>(
                min(static_cast<unsigned long long>(kTile), static_cast<unsigned long long>(tokens - begin)));
            Keys::fill(affinities, count, trials, trial, begin);
            __syncthreads();
            if (begin < trials.cluster_size) {  // the cluster's tokens count through cluster_sum
                for (std::uint32_t i = threadIdx.x; i < count && begin + i < trials.cluster_size; i += kThreads) {
                    affinities[i] = 0;
                }
                __syncthreads();
            }
            // Parts of blocks in this tile: part p belongs to block first_block + p.
            const std::uint64_t first_block = begin / trials.block_size;
            const auto parts = static_cast<std::uint32_t>((begin + count - 1) / trials.block_size - first_block + 1);
            const auto part_begin = [&](std::uint32_t p) {
                const std::uint64_t start = (first_block + p) * trials.block_size;
                return static_cast<std::uint32_t>(start > begin ? start - begin : 0);
            };
            const auto part_end = [&](std::uint32_t p) {
                const std::uint64_t end = (first_block + p + 1) * trials.block_size - begin;
                return static_cast<std::uint32_t>(end < count ? end : count);
            };
            if (trials.block_size < 64) {
                for (std::uint32_t p = threadIdx.x; p < parts; p += kThreads) {
                    std::int64_t sum = 0;
                    for (std::uint32_t i = part_begin(p); i < part_end(p); ++i) {
                        sum += affinities[i];
                    }
                    sums[p] = sum;
                }
            } else {
                for (std::uint32_t p = warp; p < parts; p += kWarps) {
                    std::int64_t sum = 0;
                    for (std::uint32_t i = part_begin(p) + lane; i < part_end(p); i += 32) {
                        sum += affinities[i];
                    }
                    for (int step = 16; step > 0; step /= 2) {
                        sum += __shfl_xor_sync(0xffffffffU, sum, step);
                    }
                    if (lane == 0) {
                        sums[p] = sum;
                    }
                }
            }
            __syncthreads();
            const std::int64_t first_sum = sums[0] + carry;
            const bool last_open = (first_block + parts) * trials.block_size > begin + count;
            if (first_block == 0 && !(parts == 1 && last_open)) {
                signal = first_sum + trials.cluster_sum;
            }
            for (std::uint32_t p = threadIdx.x; p < parts - (last_open ? 1 : 0); p += kThreads) {
                const std::uint64_t block = first_block + p;
                const std::int64_t score = p == 0 ? first_sum : sums[p];
                if (block > 0 && score >= signal) {
                    above += score > signal || block > device_signal_index(trials.key, trial, trials.candidates);
                }
            }
            carry = !last_open ? 0 : parts == 1 ? first_sum : sums[parts - 1];
            __syncthreads();
        }
        above = __reduce_add_sync(0xffffffffU, above);
        if (lane == 0) {
            above_of_warp[warp] = above;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            std::uint32_t rank = 0;
            for (const std::uint32_t part : above_of_warp) {
                rank += part;
            }
            atomicAdd(
                &list.histograms[static_cast<std::size_t>(segment.histogram) * list.bins + min(rank, list.bins - 1)],
                1U);
        }
        __syncthreads();
    }
}

}  // namespace

cudaError_t launch_vector_trials(const KeyTrials& trials, const SegmentList& list, cudaStream_t stream) {
    const auto quads = static_cast<std::size_t>((trials.head_dim + 3) / 4);
    const std::size_t bytes = quads * (sizeof(Quad) + 2 * sizeof(float));
    const cudaError_t error = cudaFuncSetAttribute(
        key_trials_kernel<VectorKeys>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (error != cudaSuccess) {
        return error;
    }
    key_trials_kernel<VectorKeys><<<list.count, kThreads, bytes, stream>>>(trials, list);
    return cudaGetLastError();
}

cudaError_t launch_affinity_trials(const KeyTrials& trials, const SegmentList& list, cudaStream_t stream) {
    key_trials_kernel<AffinityKeys><<<list.count, kThreads, 0, stream>>>(trials, list);
    return cudaGetLastError();
}

}  // namespace mobalab::sim::cuda
