#pragma once

#include <cstdint>
#include <functional>

namespace mobalab::kernels::cpu {

using Task = std::function<void(std::int64_t)>;

/// Runs task(0) ... task(count - 1), each once, on `threads` threads (0: all hardware threads), in no particular order.
/// Waits for all; the first exception is rethrown here. Plain threads and one counter instead of a task library: tasks
/// are large, and ThreadSanitizer sees through them.
void parallel_for(std::int64_t count, int threads, const Task& task);

/// The same with one task object per thread, made by `make_worker` on that thread: the place for scratch memory.
void parallel_for_workers(std::int64_t count, int threads, const std::function<Task()>& make_worker);

/// The number of threads that `threads` asks for.
int resolve_threads(int threads);

}  // namespace mobalab::kernels::cpu
