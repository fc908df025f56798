#pragma once

#include <stdexcept>

namespace mobalab::experiments {

/// Ctrl-C or a polite kill. what() says what was kept and how to go on.
class Interrupted : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// From here on SIGINT and SIGTERM set a flag that long commands look at between chunks; the second one ends the
/// process at once.
void stop_on_signals();

/// A signal came, or interrupt() was called.
bool interrupted();

/// As if a signal had come.
void interrupt();

}  // namespace mobalab::experiments
