#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "experiments/base/interrupt.h"
#include "experiments/results/journal.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// A results file of a long run: a journal beside it holds what is done until the run ends, then the file is
/// written and the journal removed. A killed run continued with `resume` ends with the bytes of an uninterrupted one.
class ResumableOutput {
public:
    enum class Mode {
        fresh,   ///< an existing file or journal is refused
        force,   ///< and replaced
        resume,  ///< and continued if it is the same task of the same build, else refused; fresh when there is none
    };

    /// What a finished file of another task holds of this one, as journal records; nothing when it holds none.
    using Extension = std::function<std::optional<Journal::Records>(const Results& finished)>;

    /// `results` carries the task and where it comes from, no tables. With `resume` a finished file that `extension`
    /// finds to be the beginning of this task (by the same build) is gone on from: its records start the journal, and
    /// the file stays until commit() replaces it. Throws FileError.
    ResumableOutput(const std::string& given_path, Mode mode, Results results, Extension extension = {});

    /// The whole file, when there was nothing left to do.
    const std::optional<Results>& finished() const { return finished_; }

    /// Whether this run began with what a finished file holds, now or before it was interrupted.
    bool extends() const { return extends_; }

    /// Where the run comes from: of its first start, when it is a continued one.
    const Results& results() const { return results_; }

    /// Last payload recorded for each key by this run and its former parts.
    const Journal::Records& records() const { return journal_->records(); }

    /// Outlives the process. At most about once a second it is synced to the disk as well.
    void record(std::int64_t key, const std::string& payload);

    /// Writes the file with these tables and removes the journal.
    void commit(std::vector<Table> tables);

private:
    void take_up(const std::string& path);
    Results same_task_file(const std::string& path) const;  ///< throws FileError when it is another task's
    bool extend(const std::string& path);                   ///< false when there is nothing to go on from
    void start_journal(const std::string& path, const std::string& replaces, Journal::Records records);

    StopAdvice advice_{"the same command with --resume goes on from here"};
    ResultsOutput output_;
    Results results_;
    Extension extension_;
    std::optional<Results> finished_;
    bool extends_ = false;
    std::optional<Journal> journal_;
    double last_sync_ = 0.0;
};

}  // namespace mobalab::experiments
