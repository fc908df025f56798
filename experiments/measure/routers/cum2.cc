#include "experiments/measure/router.h"

namespace mobalab::experiments {

/// The first two cumulants of the block's affinities z = q . k: s mean(z) + s^2 var(z) / 2, s the softmax's scale and
/// var over the block's keys. This is log(sum exp(s z) / keys), the block's share of the softmax, as far as the second
/// order: what a summary of means and covariances of keys would know.
extern const Router cum2_router;
const Router cum2_router = {.name = "cum2", .score = [](const BlockView& view) {
                                const auto keys = static_cast<double>(view.keys);
                                const double mean = view.sum / keys;
                                const double variance = view.sum_squares / keys - mean * mean;
                                return view.scale * mean + view.scale * view.scale / 2.0 * variance;
                            }};

}  // namespace mobalab::experiments
