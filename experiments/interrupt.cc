#include "experiments/interrupt.h"

#include <atomic>
#include <csignal>

namespace mobalab::experiments {
namespace {

std::atomic<bool> signalled = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void remember(int) {
    signalled = true;
}

}  // namespace

void stop_on_signals() {
    struct sigaction action {};
    action.sa_handler = remember;
    action.sa_flags =
        static_cast<int>(SA_RESETHAND | SA_RESTART);  // RESETHAND: the second signal has its default effect
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of write(), like a full disk
}

bool interrupted() {
    return signalled;
}

void interrupt() {
    signalled = true;
}

}  // namespace mobalab::experiments
