#pragma once

#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// What the backend asks of a device.
struct Device {
    int index = 0;
    int major = 0, minor = 0;  ///< compute capability
};

/// The device of the calling thread; unsupported_device where there is none.
Status current_device(Device& device);

/// ok where the library holds code that the device, which is the current one, runs.
Status check_code(const Device& device);

}  // namespace mobalab::kernels::cuda
