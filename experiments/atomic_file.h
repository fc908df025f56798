#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mobalab::experiments {

// Files that survive a crash. Everything throws FileError (results_file.h) with the path and the system's reason.

/// The whole file.
std::vector<char> read_file(const std::string& path);

/// Writes `bytes` to a new file beside `path`, syncs it, renames it over `path` and syncs the folder. On an error
/// `path` is as it was and nothing is left beside it.
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

bool file_exists(const std::string& path);   ///< anything of that name, a dangling link included
bool regular_file(const std::string& path);  ///< a file or a link to one
void remove_file(const std::string& path);   ///< no error when it is not there

}  // namespace mobalab::experiments
