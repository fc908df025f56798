#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace mobalab::experiments {

/// What `work` returns, run in a copy of this process (fork), so that a library that crashes on a damaged file, hangs
/// or wants endless memory ends the copy. `work` may use 4 GiB more memory than this process has and
/// `processor_seconds`; what it prints on stderr is lost, what it allocates need not be freed.
///
/// Throws FileError: the what() of an exception of `work`, or "<subject>: ..." saying how the copy ended. Interrupted
/// when a signal comes.
std::string in_child(const std::string& subject, std::int64_t processor_seconds,
                     const std::function<std::string()>& work);

}  // namespace mobalab::experiments
