#pragma once

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Of the current device.
Status count_multiprocessors(int& count);

}  // namespace mobalab::kernels::cuda
