#pragma once

#include <cstddef>
#include <functional>

namespace mobalab::experiments {

/// `threads`, or where it is 0 the number of hardware threads.
int thread_count(int threads);

/// body(0) ... body(count - 1), each once, on up to `threads` threads, handed out in increasing order. Returns when all
/// are done. The first exception stops the handing out and is thrown here. So does a signal, as Interrupted.
void parallel_for(std::size_t count, int threads, const std::function<void(std::size_t)>& body);

}  // namespace mobalab::experiments
