#include "kernels/cuda/host/path_table.h"

#include "kernels/cuda/host/path.h"

namespace mobalab::kernels::cuda {

const PathTable& current_path_table() {
    return current_path() == CudaPath::hopper ? *hopper_path_table() : portable_path_table();
}

}  // namespace mobalab::kernels::cuda
