#include "experiments/base/interrupt.h"

#include <fmt/format.h>
#include <semaphore.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "experiments/base/terminal.h"

namespace mobalab::experiments {
namespace {

using namespace std::chrono_literals;

std::atomic<bool> stopped = false;
std::atomic<int> signal_number = 0;
std::atomic<bool> last_word_taken = false;
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a signal handler may only touch lock-free atomics");

sem_t signal_came;

/// What the thread that ends the process must know of the others' work.
struct Ending {
    std::mutex mutex;
    std::string speaker = "mobalab";
    std::vector<const std::string*> advices;
    std::multiset<std::string> leftovers;
    /// Work that looks at the flag gets this long to end in order; ranks wait for each other 300 ms (rank_dealer.cc).
    std::chrono::milliseconds patience = 700ms;
};

/// Never destroyed: the thread may outlive main().
Ending& ending() {
    static auto* const present = new Ending;
    return *present;
}

extern "C" void remember(int number) {
    int none = 0;
    signal_number.compare_exchange_strong(none, number);
    stopped = true;
    ::sem_post(&signal_came);
}

void say(const std::string& line) {
    // The progress line of a terminal is still there.
    const std::string text = (::isatty(STDERR_FILENO) == 1 ? "\r\033[K" : "") + line;
    if (::write(STDERR_FILENO, text.data(), text.size()) < 0) {
        return;  // nobody reads it
    }
}

[[noreturn]] void die(int number) {
    std::signal(number, SIG_DFL);
    ::raise(number);
    ::_exit(128 + number);  // process 1 of a container outlives its own signals
}

/// Runs on a thread of its own.
void end_what_does_not_look() {
    while (::sem_wait(&signal_came) != 0) {
    }
    Ending& state = ending();
    std::unique_lock lock(state.mutex);
    const auto patience = state.patience;
    lock.unlock();
    std::this_thread::sleep_for(patience);
    const bool mine = take_last_word();
    lock.lock();  // for good: no file is added or removed any more
    for (const std::string& path : state.leftovers) {
        ::unlink(path.c_str());
    }
    if (mine && !state.speaker.empty()) {
        say(fmt::format("{}: error: interrupted; {}\n", state.speaker,
                        state.advices.empty() ? "nothing was written" : *state.advices.back()));
    }
    die(signal_number);
}

void handle(int number) {
    struct sigaction action {};
    action.sa_handler = remember;
    action.sa_flags =
        static_cast<int>(SA_RESETHAND | SA_RESTART);  // RESETHAND: the second signal has its default effect
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, nullptr);
}

bool ignored(int number) {
    struct sigaction present {};
    return sigaction(number, nullptr, &present) == 0 && present.sa_handler == SIG_IGN;
}

// What nohup asked for is looked up before the constructors of any library run: UCX, which OpenMPI 5 brings, takes
// SIGHUP for itself in one.
bool nohup = false;

void look_for_nohup() {
    nohup = ignored(SIGHUP);
}

[[gnu::section(".preinit_array"), gnu::used]] void (*before_constructors)() = look_for_nohup;

}  // namespace

void stop_on_signals() {
    ::sem_init(&signal_came, 0, 0);
    ending();
    try {
        std::thread(end_what_does_not_look).detach();
    } catch (const std::system_error&) {
        // the system gives no more threads: what looks at the flag still ends in order
    }
    handle(SIGINT);
    handle(SIGTERM);
    if (nohup) {
        std::signal(SIGHUP, SIG_IGN);
    } else {
        handle(SIGHUP);
    }
    std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of write(), like a full disk
}

bool interrupted() {
    return stopped;
}

void interrupt() {
    stopped = true;
}

void stop_if_interrupted() {
    if (interrupted()) {
        throw Interrupted("interrupted; " + StopAdvice::present());
    }
}

int interrupted_code() {
    return signal_number == 0 ? exit_error : 128 + signal_number;
}

int end_by_signal(int code) {
    if (signal_number != 0 && code == interrupted_code()) {
        die(signal_number);
    }
    return code;
}

void set_speaker(const std::string& name) {
    const std::lock_guard lock(ending().mutex);
    if (!ending().speaker.empty()) {
        ending().speaker = name;
    }
}

void leave_the_last_word_to_rank_0() {
    const std::lock_guard lock(ending().mutex);
    ending().speaker.clear();
    ending().patience = 1200ms;
}

bool take_last_word() {
    return signal_number == 0 || !last_word_taken.exchange(true);
}

StopAdvice::StopAdvice(std::string advice) : advice_(std::move(advice)) {
    const std::lock_guard lock(ending().mutex);
    ending().advices.push_back(&advice_);
}

StopAdvice::~StopAdvice() {
    const std::lock_guard lock(ending().mutex);
    std::erase(ending().advices, &advice_);
}

std::string StopAdvice::present() {
    const std::lock_guard lock(ending().mutex);
    return ending().advices.empty() ? "nothing was written" : *ending().advices.back();
}

Leftover::Leftover(std::string path) : path_(std::move(path)) {
    const std::lock_guard lock(ending().mutex);
    ending().leftovers.insert(path_);
}

Leftover::~Leftover() {
    const std::lock_guard lock(ending().mutex);
    const auto found = ending().leftovers.find(path_);
    if (found != ending().leftovers.end()) {
        ending().leftovers.erase(found);
    }
}

}  // namespace mobalab::experiments
