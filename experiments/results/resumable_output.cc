#include "experiments/results/resumable_output.h"

#include <fmt/format.h>

#include <chrono>

namespace mobalab::experiments {
namespace {

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Journal::Header header_of(const Results& results) {
    return {{"task", results.task},         {"subcommand", results.subcommand}, {"command", results.command},
            {"settings", results.settings}, {"version", results.version},       {"git_commit", results.git_commit},
            {"device", results.device},     {"utc_time", results.utc_time}};
}

/// Whether a file or journal with these marks may stand for a run of `wanted`.
void check_same_task(const std::string& path, const Results& wanted, const std::string& subcommand,
                     const std::string& task, const std::string& command) {
    if (subcommand != wanted.subcommand || task != wanted.task) {
        throw FileError(
            fmt::format("{}: holds another run ({}); give the same points, seed and stop rule, another --out, "
                        "or --force to replace it",
                        path, command));
    }
}

void check_same_build(const std::string& path, const Results& wanted, const Journal::Header& header) {
    if (header.at("version") != wanted.version || header.at("git_commit") != wanted.git_commit) {
        throw FileError(
            fmt::format("{}: was written by mobalab {} (commit {}) and this is {} ({}); continue with that "
                        "build or start afresh with --force",
                        path, header.at("version"), header.at("git_commit"), wanted.version, wanted.git_commit));
    }
}

}  // namespace

ResumableOutput::ResumableOutput(const std::string& given_path, Mode mode, Results results, Extension extension)
    : output_(given_path, mode != Mode::fresh), results_(std::move(results)), extension_(std::move(extension)) {
    const std::string& path = output_.path();
    if (mode == Mode::resume) {
        take_up(path);
    }
    if (!journal_ && !finished_) {
        start_journal(path, mode == Mode::force ? "yes" : "no", {});
    }
}

void ResumableOutput::start_journal(const std::string& path, const std::string& replaces, Journal::Records records) {
    Journal::Header header = header_of(results_);
    header["replaces"] = replaces;
    header["extends"] = extends_ ? "yes" : "no";
    journal_ = Journal::create(journal_path(path), header, std::move(records));
}

bool ResumableOutput::extend(const std::string& path) {
    const Results found = read_results(path);
    if (!extension_ || found.subcommand != results_.subcommand || found.task == results_.task) {
        return false;
    }
    std::optional<Journal::Records> records = extension_(found);
    if (!records) {
        return false;
    }
    check_same_build(path, results_, header_of(found));
    extends_ = true;
    start_journal(path, "yes", std::move(*records));
    return true;
}

void ResumableOutput::take_up(const std::string& path) {
    // The journal comes first: beside it, the file at the path is an older one that --force condemned.
    const std::string journal_file = journal_path(path);
    if (!file_exists(journal_file)) {
        if (file_exists(path) && !extend(path)) {
            finished_ = same_task_file(path);
        }
        return;
    }
    Journal journal = Journal::resume(journal_file);
    const Journal::Header& header = journal.header();
    check_same_task(journal_file, results_, header.at("subcommand"), header.at("task"), header.at("command"));
    check_same_build(journal_file, results_, header);
    if (header.at("replaces") != "yes" && file_exists(path)) {
        same_task_file(
            path);  // a crash right before the journal was removed leaves this run's own; nothing else may go
    }
    results_.command = header.at("command");
    results_.settings = header.at("settings");
    results_.device = header.at("device");
    results_.utc_time = header.at("utc_time");
    extends_ = header.contains("extends") && header.at("extends") == "yes";
    journal_ = std::move(journal);
}

Results ResumableOutput::same_task_file(const std::string& path) const {
    Results found = read_results(path);
    check_same_task(path, results_, found.subcommand, found.task, found.command);
    return found;
}

void ResumableOutput::record(std::int64_t key, const std::string& payload) {
    journal_->record(key, payload);
    if (now() - last_sync_ > 1.0) {
        journal_->sync();
        last_sync_ = now();
    }
}

void ResumableOutput::commit(std::vector<Table> tables) {
    results_.tables = std::move(tables);
    output_.commit(results_);
}

}  // namespace mobalab::experiments
