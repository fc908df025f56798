#pragma once

#include <cstdint>
#include <vector>

namespace mobalab::experiments {

/// Unit rows first to first + rows - 1 of tensor number `tensor` of a bench: fp32 [rows, head_dim], the same in every
/// run.
std::vector<float> bench_rows(std::int64_t tensor, std::int64_t first, std::int64_t rows, std::int64_t head_dim);

}  // namespace mobalab::experiments
