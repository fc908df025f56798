#pragma once

#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace mobalab::experiments {

/// Shares the long parts of a command with the other ranks of an `mpirun`; alone it shares nothing.
///
/// Every rank runs the same command on the same arguments, in sections that begin in the same order. Rank 0 owns the
/// journal, the stop rules and the output. It asks the others for pieces of the section's work; they answer them inside
/// begin() and never come past the last section. So what a command does between sections must be cheap and must not
/// need the results of a section.
class WorkDealer {
public:
    /// Computes one piece; request and reply are bytes of the section's own making, the same on every rank as all run
    /// the same build. Called from several threads at once.
    using Handler = std::function<std::string(const std::string& request)>;

    virtual ~WorkDealer() = default;

    /// Begins a section. True on rank 0, when the other ranks are ready for it: the caller sees that the section is
    /// done. The others answer requests on `threads` threads until rank 0 begins the next section, and get false: the
    /// section is over and its results are elsewhere. When rank 0 needs them no longer, Dismissed is thrown. `agreed`:
    /// what must be the same beyond this_rank().task (the device --device auto took); where it is not, the run fails.
    virtual bool begin(int threads, const std::string& agreed, const Handler& handler) = 0;

    /// Pieces the other ranks hold at once in this section: how many threads more can wait in ask(). 0 when alone.
    virtual int helpers() const = 0;

    /// Has one piece computed elsewhere and waits for it; nothing when no helper is free (compute it here).
    /// Thread-safe. Throws Interrupted when a signal came or a rank ended, std::runtime_error when the piece failed
    /// there.
    virtual std::optional<std::string> ask(const std::string& request) = 0;

    /// Which rank has ended before its time; empty when none has.
    virtual std::string lost_rank() const = 0;
};

/// Thrown by begin() when rank 0 needs a helper no longer. Not a std::exception: nobody may take it for an error.
struct Dismissed {};

/// The dealer of this process: one that shares nothing until set_work_dealer() gives another (run_on_ranks()).
WorkDealer& work_dealer();
void set_work_dealer(WorkDealer* dealer);  ///< nullptr: shares nothing again; not while a command runs

/// "interrupted", or which rank has ended.
std::string stop_cause();

}  // namespace mobalab::experiments
