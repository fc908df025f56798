#include "experiments/measure/router.h"

namespace mobalab::experiments {

/// The blocks that hold most of the softmax: no router of so many blocks recalls more of its mass.
extern const Router oracle_router;
const Router oracle_router = {.name = "oracle", .score = [](const BlockView& view) { return view.mass; }};

}  // namespace mobalab::experiments
