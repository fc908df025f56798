#include "experiments/measure/router.h"

namespace mobalab::experiments {

/// The latest blocks, as a sliding window keeps them: what routing must beat.
extern const Router window_router;
const Router window_router = {
    .name = "window", .score = [](const BlockView& view) { return static_cast<double>(view.block); }, .scored = false};

}  // namespace mobalab::experiments
