#pragma once

#include <cstdint>
#include <string>

#include "tests/experiments/measure/measure_judge.h"
#include "tests/experiments/trace/trace_files.h"

namespace mobalab::experiments {

/// Heads as a model has them, of small integers, so that block scores are exact in fp32 and bf16 and their ties are
/// ties: keys share a mean, resemble their neighbours and turn slowly; token 0 is a sink; facts are planted.
struct SyntheticTrace {
    std::vector<JudgedHead> heads;  ///< query heads; all read one key head
    TestTrace file;                 ///< layer 3
};

SyntheticTrace synthetic_trace(std::uint64_t seed, const std::string& type);

}  // namespace mobalab::experiments
