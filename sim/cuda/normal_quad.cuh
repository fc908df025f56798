#pragma once

#include <curand_kernel.h>

#include <cstdint>

#include "sim/streams/transforms.h"

namespace mobalab::sim::cuda {

/// The four normals of Philox block (seed, subsequence, draw), the words drawn by cuRAND.
struct NormalQuad {
    float z[4];

    __device__ NormalQuad(std::uint64_t seed, std::uint64_t subsequence, std::uint64_t draw) {
        curandStatePhilox4_32_10_t state;
        curand_init(seed, subsequence, 4 * draw, &state);
        const uint4 words = curand4(&state);
        const Pair low = normal_pair(words.x, words.y);
        const Pair high = normal_pair(words.z, words.w);
        z[0] = low.first;
        z[1] = low.second;
        z[2] = high.first;
        z[3] = high.second;
    }
};

}  // namespace mobalab::sim::cuda
