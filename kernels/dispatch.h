#pragma once

#include <cstddef>
#include <exception>
#include <new>

#include "kernels/backend.h"

// What the public functions do before and around a backend's.
namespace mobalab::kernels {

/// Null for a number that is no Backend.
const BackendTable* find_backend(Backend backend);

/// Whether the table has what the operation needs.
bool offers(const BackendTable& table, Operation operation);

/// The checks that every operation shares; `offered` is whether the table has the operation. `workspace`: bytes of it
/// that the operation uses.
Status prepare(const BackendTable* table, bool offered, Operation operation, const Problem& problem,
               const Execution& execution, std::size_t& workspace);

/// Backends may throw (memory, threads); the API does not.
template <typename Call>
Status guarded(const Call& call) {
    try {
        return call();
    } catch (const std::bad_alloc&) {
        return {StatusCode::device_error, "out of host memory; try a smaller batch or fewer heads per call"};
    } catch (const std::exception& error) {
        return {StatusCode::device_error, error.what()};
    }
}

}  // namespace mobalab::kernels
