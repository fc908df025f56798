#pragma once

#include <stdexcept>
#include <string>

namespace mobalab::experiments {

// How a run ends that a signal asks to end. SIGINT (Ctrl-C), SIGTERM and SIGHUP (unless nohup ignores it) set a flag;
// long work looks at it between its pieces and ends in order. What is in the middle of a long piece, a CUDA launch or a
// library cannot look: it is ended after a moment all the same. Nothing is lost by that, because what is on the disk is
// whole at every moment (atomic_file.h, journal.h); this file keeps the list of what must be removed and said then.

/// A signal came, or a rank ended. what() says what was kept and how to go on.
class Interrupted : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// From here on the first signal stops the run within about a second and the second one at once.
void stop_on_signals();

/// A signal came, or interrupt() was called.
bool interrupted();

/// As if a signal had come, but the process goes on: pieces that nobody waits for any more end early.
void interrupt();

/// Throws Interrupted with the present advice when interrupted().
void stop_if_interrupted();

/// 128 + the signal that came, as a shell has it; exit_error when none came.
int interrupted_code();

/// Ends the process by the signal that came when `code` is interrupted_code(), so that a shell's loop around the
/// program ends too; else returns `code`.
int end_by_signal(int code);

/// Who speaks when a signal has to end the process in the middle of something: "mobalab simulate".
void set_speaker(const std::string& name);

/// A helper of an mpirun: rank 0 speaks, and this process leaves it the time to end first.
void leave_the_last_word_to_rank_0();

/// True for whoever asks first: the run's one line about its end is said once.
bool take_last_word();

/// What is kept and how to go on, for the line about an interruption; the innermost one counts. "nothing was written"
/// where there is none.
class StopAdvice {
public:
    explicit StopAdvice(std::string advice);
    ~StopAdvice();
    StopAdvice(const StopAdvice&) = delete;
    StopAdvice& operator=(const StopAdvice&) = delete;

    static std::string present();

private:
    std::string advice_;
};

/// A file that must not outlive the process: removed too when a signal ends it in the middle of something. The owner
/// removes it in every other case.
class Leftover {
public:
    explicit Leftover(std::string path);
    ~Leftover();
    Leftover(const Leftover&) = delete;
    Leftover& operator=(const Leftover&) = delete;

private:
    std::string path_;
};

}  // namespace mobalab::experiments
