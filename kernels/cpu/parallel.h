#pragma once

#include <cstdint>
#include <functional>

namespace mobalab::kernels::cpu {

/// Runs task(0) ... task(count - 1), each once, on `threads` threads (0: all hardware threads), in no particular order.
/// Waits for all; the first exception is rethrown here. Plain threads and one counter instead of a task library: tasks
/// are large, and ThreadSanitizer sees through them.
void parallel_for(int threads, std::int64_t count, const std::function<void(std::int64_t)>& task);

}  // namespace mobalab::kernels::cpu
