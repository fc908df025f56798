#pragma once

#include <string>
#include <vector>

#include "experiments/advise/advice.h"

namespace mobalab::experiments {

/// "at most 1024 keys a query", "at most 2 ms", "recall of at least 0.9".
std::string to_string(const Budget& budget);

/// The recommendation in one sentence; where nothing can be chosen what comes nearest.
std::string recommendation(const Evidence& evidence, const Advice& advice, const Budget& budget);

/// A line each: what the evidence leaves out, settings that cannot be told from the chosen one, heads that should stay
/// dense and what the recall is then, and what routers that no kernel runs find.
std::vector<std::string> advice_notes(const Evidence& evidence, const Advice& advice, double dense_below);

/// "layer 5 head 3".
std::string to_string(const HeadName& name);

/// Why a head should stay dense, or not.
std::string verdict_on(const HeadLoss& loss, double dense_below);

}  // namespace mobalab::experiments
