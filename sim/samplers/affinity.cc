#include "sim/samplers/affinity.h"

#include "sim/simd/instruction_set.h"

namespace mobalab::sim {

void fill_affinities(std::int32_t* out, std::size_t count, PhiloxKey key, std::uint64_t subsequence,
                     std::uint64_t first, float exponent) {
    default_loops().fill_affinities(out, count, key, subsequence, first, exponent);
}

}  // namespace mobalab::sim
