#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "experiments/interrupt.h"
#include "experiments/journal.h"
#include "experiments/results_file.h"
#include "experiments/subcommand.h"

namespace mobalab::experiments {

/// output_flags() and --resume.
std::vector<Flag> resumable_output_flags();

/// A results file of a long run: a journal beside it holds what is done until the run ends, then the file is
/// written and the journal removed. A killed run continued with `resume` ends with the bytes of an uninterrupted one.
class ResumableOutput {
public:
    enum class Mode {
        fresh,   ///< an existing file or journal is refused
        force,   ///< and replaced
        resume,  ///< and continued if it is the same task of the same build, else refused; fresh when there is none
    };

    /// `results` carries the task and where it comes from, no tables. Throws FileError.
    ResumableOutput(const std::string& given_path, Mode mode, Results results);

    /// The whole file, when there was nothing left to do.
    const std::optional<Results>& finished() const { return finished_; }

    /// Where the run comes from: of its first start, when it is a continued one.
    const Results& results() const { return results_; }

    /// Last payload recorded for each key by this run and its former parts.
    const std::map<std::int64_t, std::string>& records() const { return journal_->records(); }

    /// Outlives the process. At most about once a second it is synced to the disk as well.
    void record(std::int64_t key, const std::string& payload);

    /// Writes the file with these tables and removes the journal.
    void commit(std::vector<Table> tables);

private:
    void take_up(const std::string& path);
    Results same_task_file(const std::string& path) const;  ///< throws FileError when it is another task's

    StopAdvice advice_{"the same command with --resume goes on from here"};
    ResultsOutput output_;
    Results results_;
    std::optional<Results> finished_;
    std::optional<Journal> journal_;
    double last_sync_ = 0.0;
};

/// --force and --resume of a command; both is an InputError.
ResumableOutput::Mode output_mode(const Arguments& arguments);

}  // namespace mobalab::experiments
