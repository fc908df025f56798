#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "experiments/results/atomic_file.h"

namespace mobalab::experiments {

/// What a long run has done so far, beside its results file: a text file of checksummed lines that is only appended to.
///
///     <crc-32, 8 hex digits> <header: JSON object of strings>
///     <crc-32, 8 hex digits> <key> <payload>
///
/// A key's last record counts. A last line that a crash tore is dropped; damage anywhere else is refused. When old
/// records fill most of a large file it is rewritten (atomically) with the last ones alone.
class Journal {
public:
    using Header = std::map<std::string, std::string>;
    using Records = std::map<std::int64_t, std::string>;

    /// Starts a journal, with these records all at once; an older one at the path is replaced. Throws FileError.
    static Journal create(const std::string& path, const Header& header, Records records = {});

    /// Continues a journal. Throws FileError when it is not a journal or damaged.
    static Journal resume(const std::string& path);

    const Header& header() const { return header_; }
    const Records& records() const { return records_; }

    /// Appends a record; it outlives the process, and after sync() also a loss of power. `payload` is one line.
    void record(std::int64_t key, const std::string& payload);
    void sync() { file_->sync(); }

    /// Size at which a journal of mostly old records is rewritten.
    void set_compaction_size(std::size_t bytes) { compaction_size_ = bytes; }

private:
    Journal(std::string path, Header header) : path_(std::move(path)), header_(std::move(header)) {}
    std::string compact_text() const;
    void compact();

    std::string path_;
    Header header_;
    Records records_;
    std::unique_ptr<AppendFile> file_;
    std::size_t size_ = 0;
    std::size_t compaction_size_ = std::size_t{16} << 20;
};

}  // namespace mobalab::experiments
