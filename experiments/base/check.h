#pragma once

#include <stdexcept>

#include "kernels/kernels.h"

namespace mobalab::experiments {

/// A kernel refused or failed; what() is the kernel's own message.
class KernelError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Throws KernelError unless the kernel did what it was asked for.
inline void check(const kernels::Status& status) {
    if (!status.ok()) {
        throw KernelError(status.message);
    }
}

}  // namespace mobalab::experiments
