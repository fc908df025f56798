#pragma once

#include <string>

#include "kernels/kernels.h"

namespace mobalab::kernels {

/// The rules of kernels.h for the integers of a problem. With `host_memory` the contents of cu_seqlens are checked as
/// well. The message names the value, the rule and the nearest valid choice.
Status check_problem(Operation operation, const Problem& problem, bool host_memory);

/// A pointer the operation reads or writes; `count` elements behind it (null is fine where that is 0).
Status check_pointer(const char* name, const void* pointer, std::int64_t count);

/// Resolves strides of 0 to contiguous and refuses null data and rows that overlap.
template <typename Pointer>
Status resolve_tensor(const char* name, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim,
                      BasicTensor<Pointer>& tensor);

Status check_conv_width(int width);
Status check_execution(const Execution& execution, std::size_t workspace_needed);

inline Status invalid(std::string message) {
    return {StatusCode::invalid_argument, std::move(message)};
}

}  // namespace mobalab::kernels
