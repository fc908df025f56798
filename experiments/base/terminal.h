#pragma once

#include <iosfwd>

namespace mobalab::experiments {

/// Exit codes of the program. A run that a signal ends has 128 + its number, as shells have it (interrupt.h).
inline constexpr int exit_ok = 0;
inline constexpr int exit_disagree = 1;  ///< the program ran and the answer is no
inline constexpr int exit_error = 2;     ///< bad input, a file or a device that cannot be used, a lost rank

/// Where a command talks: results to `out`, progress and notes to `err`.
struct Terminal {
    std::ostream& out;
    std::ostream& err;
    bool err_is_tty = false;     ///< true: progress may redraw one line
    bool json_progress = false;  ///< true: progress is for a program, a JSON object a line
};

}  // namespace mobalab::experiments
