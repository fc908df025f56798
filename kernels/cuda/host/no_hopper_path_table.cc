// Stands in for the Hopper kernels in a build whose architectures do not name 90a.
#include "kernels/cuda/host/path_table.h"

namespace mobalab::kernels::cuda {

const PathTable* hopper_path_table() {
    return nullptr;
}

}  // namespace mobalab::kernels::cuda
