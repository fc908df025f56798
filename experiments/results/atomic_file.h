#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/base/interrupt.h"

namespace mobalab::experiments {

// Files that survive a crash. Everything throws FileError (experiments/base/regular_file.h) with the path and the
// system's reason.

/// Where a file at `path` really lies: the path itself, or what the symbolic link at it leads to. A link to nothing is
/// refused.
std::string link_target(const std::string& path);

/// Writes `bytes` to a new file beside `path`, syncs it, renames it over `path` and syncs the folder. On an error
/// `path` is as it was and nothing is left beside it. What is replaced keeps its permissions.
void write_file_atomically(const std::string& path, std::string_view bytes);

/// An exclusive lock on `path`, held by a file `path`.lock until destruction or the end of the process, however it
/// ends.
class FileLock {
public:
    /// Throws FileError when another process holds it or the folder cannot be written.
    explicit FileLock(const std::string& path);
    ~FileLock();
    FileLock(const FileLock&) = delete;
    FileLock& operator=(const FileLock&) = delete;

private:
    std::string lock_path_;
    int descriptor_;
    std::unique_ptr<Leftover> leftover_;
};

/// A record-oriented append-only file.
class AppendFile {
public:
    /// Continues `path` after its first `size` bytes; the rest is cut off.
    AppendFile(std::string path, std::size_t size);
    ~AppendFile();
    AppendFile(const AppendFile&) = delete;
    AppendFile& operator=(const AppendFile&) = delete;

    void append(std::string_view bytes);  ///< visible to a successor even if this process is killed right after
    void sync();                          ///< and even if the machine loses power

private:
    std::string path_;
    int descriptor_;
};

bool file_exists(const std::string& path);    ///< anything of that name, a dangling link included
bool regular_file(const std::string& path);   ///< a file or a link to one
bool dangling_link(const std::string& path);  ///< a link to nothing, or in a circle
void remove_file(const std::string& path);    ///< no error when it is not there

}  // namespace mobalab::experiments
