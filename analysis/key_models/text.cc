#include "analysis/key_model.h"
#include "analysis/text_block_scores.h"

namespace mobalab::analysis {

/// Gaussian keys along a text with RoPE, a shared mean, a spectrum, an autocovariance and a sink
/// (analysis/text_keys.h). No exact law: scores of blocks depend on each other, on the query and on the place.
extern const KeyModelDefinition text_model;
constexpr KeyModelDefinition text_model = {.name = "text",
                                           .rows = Rows::vectors,
                                           .takes_key_correlation = true,
                                           .text_keys = true,
                                           .approximation = approximate_text_hit,
                                           .approximates = can_approximate_text};

}  // namespace mobalab::analysis
