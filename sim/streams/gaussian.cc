#include "sim/streams/gaussian.h"

#include "sim/simd/instruction_set.h"

namespace mobalab::sim {

void fill_gaussian(std::span<float> out, PhiloxKey key, std::uint64_t subsequence, std::uint64_t first_draw) {
    default_loops().fill_gaussian(out.data(), out.size(), key, subsequence, first_draw);
}

}  // namespace mobalab::sim
