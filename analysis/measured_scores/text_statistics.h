#pragma once

#include "analysis/measured_scores/token_statistics.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {

/// The token statistics of model text (analysis/text_keys.h), derived: what a long enough trace of its queries and keys
/// would give. The needle is the one planted, of which there is one group a half octave of its distance; nothing is
/// said of attention mass. README.md has the derivation. Averages over queries are over 256 Sobol points (error of a
/// few percent of what queries differ by).
///
/// Throws InputError: validate(), a model without text_keys, head_dim above most_drawn_head_dim, block_size outside
/// 2 ... most_block_size, more than 65536 tokens.
TokenStatistics text_statistics(const RoutingPoint& point);

}  // namespace mobalab::analysis
