#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/predict/head_scores.h"

namespace mobalab::experiments {

/// A head whose scores are what the one-pass law assumes: along the keys a query's scores are a first-order
/// autoregression of normal deviates, shared keys apart independent from query to query, and a query resembles one past
/// key (and so that key's neighbours) at a distance that is log-uniform.
struct AutoregressiveHead {
    std::int64_t tokens = 0;
    std::int64_t q_start = 0;
    std::int64_t head_dim = 0;
    std::vector<float> q;  ///< [tokens - q_start, head_dim]
    std::vector<float> k;  ///< [tokens, head_dim]
};

/// Queries are those of the last two thirds of the tokens.
AutoregressiveHead autoregressive_head(std::uint64_t seed, std::int64_t tokens = 1536);

/// The heads (of as many tokens) as layer 2 of a trace in safetensors, fp32, one key head a query head, scale 1.
std::string trace_bytes(const std::vector<AutoregressiveHead>& heads);

}  // namespace mobalab::experiments
