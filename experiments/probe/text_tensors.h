#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "analysis/text_keys.h"
#include "sim/streams/philox.h"

namespace mobalab::experiments {

// Tensors of model text (analysis/text_keys.h) for the probe, drawn on the host.

/// fp32 [tokens, head_dim]: the keys of a text behind RoPE, from the first token on. A function of its arguments.
std::vector<float> draw_text_keys(const analysis::TextKeys& keys, std::int64_t tokens, sim::PhiloxKey key,
                                  std::uint64_t subsequence);

/// What a query is built from.
struct TextQuery {
    std::int64_t needle = 0;    ///< its token
    std::int64_t position = 0;  ///< of the query
    double mu_signal = 0.0;
    double query_mean = 0.0;
    std::uint64_t noise = 0;  ///< number of its direction outside the needle and the mean, in the stream of the call
};

/// Writes the query behind RoPE, fp32 [head_dim], for a needle whose key (behind RoPE, fp32 [head_dim]) is given: the
/// cosine with that key as it is, less its mean, is the one asked for.
void build_text_query(const analysis::TextKeys& keys, const TextQuery& recipe, std::span<const float> needle_key,
                      sim::PhiloxKey key, std::uint64_t subsequence, std::span<float> query);

}  // namespace mobalab::experiments
