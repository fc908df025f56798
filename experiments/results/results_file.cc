#include "experiments/results/results_file.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/uuid/name_generator_sha1.hpp>
#include <boost/uuid/uuid_io.hpp>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <ctime>

#include "experiments/base/build_info.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/values.h"
#include "experiments/results/atomic_file.h"
#include "experiments/results/seal.h"

namespace mobalab::experiments {
namespace {

std::time_t start_time() {
    const char* fixed = std::getenv("SOURCE_DATE_EPOCH");
    return fixed != nullptr ? parse_integer("SOURCE_DATE_EPOCH", fixed, {0, 253402300799})
                            : std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
}

/// Where the file will lie. What is no file is refused before a lock is left beside it.
std::string path_to_write(const std::string& path) {
    if (path.empty()) {
        throw FileError("out = (nothing): must be the path of a file to write, like results.h5");
    }
    if (file_exists(path) && !regular_file(path) && !dangling_link(path)) {
        throw FileError(fmt::format("{}: is not a regular file; give the path of a file to write", path));
    }
    return link_target(path);
}

void refuse_existing(const std::string& path, bool force) {
    if (force) {
        return;
    }
    if (file_exists(path)) {
        throw FileError(
            fmt::format("{}: exists and is never overwritten; add --force to replace it or give another --out", path));
    }
    if (file_exists(journal_path(path))) {
        throw FileError(fmt::format("{}: an interrupted run left it; add --resume to go on or --force to start afresh",
                                    journal_path(path)));
    }
}

}  // namespace

std::size_t Column::size() const {
    return std::visit([](const auto& held) { return held.size(); }, values);
}

std::size_t Table::rows() const {
    return columns.empty() ? 0 : columns.front().size();
}

bool Table::has(const std::string& column_name) const {
    return std::any_of(columns.begin(), columns.end(),
                       [&](const Column& column) { return column.name == column_name; });
}

const Column& Table::column(const std::string& column_name) const {
    for (const Column& column : columns) {
        if (column.name == column_name) {
            return column;
        }
    }
    throw std::out_of_range(fmt::format("table {} has no column {}", name, column_name));
}

const std::vector<std::int64_t>& Table::integers(const std::string& column_name) const {
    return std::get<std::vector<std::int64_t>>(column(column_name).values);
}

const std::vector<double>& Table::reals(const std::string& column_name) const {
    return std::get<std::vector<double>>(column(column_name).values);
}

const std::vector<std::string>& Table::texts(const std::string& column_name) const {
    return std::get<std::vector<std::string>>(column(column_name).values);
}

const Table& Results::table(const std::string& name) const {
    for (const Table& table : tables) {
        if (table.name == name) {
            return table;
        }
    }
    throw std::out_of_range(fmt::format("the results have no table {}", name));
}

Results new_results(const std::string& subcommand) {
    Results results;
    results.subcommand = subcommand;
    results.version = build_info().version;
    results.git_commit = build_info().git_commit;
    results.build = build_info().build;
    results.utc_time = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(start_time()));
    return results;
}

std::string task_id(const std::string& canonical_text) {
    const boost::uuids::name_generator_sha1 generator(boost::uuids::ns::oid());
    return boost::uuids::to_string(generator(canonical_text));
}

bool is_results_file(const std::string& path) {
    const FileDescriptor file(path, O_RDONLY, "cannot be read");
    const auto size = static_cast<std::size_t>(file.regular(path).st_size);
    std::string end(std::min(size, seal_bytes), '\0');
    const ssize_t got = ::pread(file.get(), end.data(), end.size(), static_cast<off_t>(size - end.size()));
    if (got < 0) {
        fail_file(path, "cannot be read", errno);
    }
    end.resize(static_cast<std::size_t>(got));
    return is_seal(end);
}

Results read_results(const std::string& path) {
    return decode_results(read_file(path), path);
}

std::string journal_path(const std::string& results_path) {
    return results_path + ".journal";
}

ResultsOutput::ResultsOutput(const std::string& path, bool force)
    : path_(path_to_write(path)), lock_(std::make_unique<FileLock>(path_)) {
    refuse_existing(path_, force);
}

ResultsOutput::~ResultsOutput() = default;

void ResultsOutput::commit(const Results& results) {
    const std::vector<char> bytes = encode_results(results);
    write_file_atomically(path_, {bytes.data(), bytes.size()});
    remove_file(journal_path(path_));
    advice_ = std::make_unique<StopAdvice>(path_ + " is whole");
}

}  // namespace mobalab::experiments
