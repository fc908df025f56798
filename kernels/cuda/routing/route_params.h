#pragma once

#include <cstdint>

#include "kernels/cuda/routing/route_work.cuh"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// What every routing kernel is told of a problem, before it is known how work is dealt to thread blocks. block_base:
/// see centroid.h; stored: see route.h; scores may be null.
RouteParams make_route_params(const Problem& problem, const std::int32_t* block_base, float* stored,
                              std::int32_t* selection, float* scores);

}  // namespace mobalab::kernels::cuda
