#include "analysis/channel_maxima.h"

namespace mobalab::analysis {
namespace {

NormalSignal approximation(const RoutingPoint& point) {
    return channel_maxima_signal(point, ChannelScore::signed_maximum);
}

}  // namespace

/// An upper bound of the block's affinities: each channel of the query against the end of the keys' range that suits
/// its sign (Tang et al., "Quest: query-aware sparsity for efficient long-context LLM inference", ICML 2024, algorithm
/// 1).
extern const ScorerDefinition quest_scorer;
constexpr ScorerDefinition quest_scorer = {
    .name = "quest",
    .parts = 2,
    .part = {{{QueryMap::positive_part, Summary::maximum}, {QueryMap::negative_part, Summary::minimum}}},
    .divides = false,
    .approximation = approximation};

}  // namespace mobalab::analysis
