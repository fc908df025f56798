#include "analysis/channel_maxima.h"

namespace mobalab::analysis {
namespace {

NormalSignal approximation(const RoutingPoint& point) {
    return channel_maxima_signal(point, ChannelScore::maximum);
}

}  // namespace

/// The query against the largest value of each channel.
extern const ScorerDefinition max_scorer;
constexpr ScorerDefinition max_scorer = {.name = "max",
                                         .parts = 1,
                                         .part = {{{QueryMap::identity, Summary::maximum}}},
                                         .divides = false,
                                         .approximation = approximation};

}  // namespace mobalab::analysis
