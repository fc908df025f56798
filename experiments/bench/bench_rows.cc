#include "experiments/bench/bench_rows.h"

#include <cstddef>

#include "sim/streams/unit_rows.h"

namespace mobalab::experiments {

std::vector<float> bench_rows(std::int64_t tensor, std::int64_t first, std::int64_t rows, std::int64_t head_dim) {
    std::vector<float> values(static_cast<std::size_t>(rows * head_dim));
    sim::fill_unit_rows(
        {.head_dim = head_dim, .key = {.lo = 1, .hi = 0}, .subsequence = static_cast<std::uint64_t>(tensor)}, first,
        values);
    return values;
}

}  // namespace mobalab::experiments
