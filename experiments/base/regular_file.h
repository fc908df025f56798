#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace mobalab::experiments {

// Nothing but regular files is read or written: a pipe would wait for its other end, a device never ends.

/// A file that cannot be read or written, or that is not what it must be. what() names path, rule and what to do.
class FileError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Throws FileError: path, what cannot be done, and the system's reason (an errno).
[[noreturn]] void fail_file(const std::string& path, const char* what, int error);

/// An open file, closed when this ends unless it is released.
class FileDescriptor {
public:
    /// `flags` of open(2); a new file may be read by all. Throws FileError, for which `what` is what cannot be done.
    FileDescriptor(const std::string& path, int flags, const char* what) : FileDescriptor(path, flags, path, what) {}
    /// The same; an error speaks of `shown_path`.
    FileDescriptor(const std::string& path, int flags, const std::string& shown_path, const char* what);
    ~FileDescriptor();
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;

    int get() const { return value_; }

    /// What fstat(2) says of the file, which must be a regular one. Throws FileError naming what it is instead.
    struct stat regular(const std::string& path) const;

    int release();

private:
    int value_;
};

/// Above this nothing this program writes lies: the largest grid makes results and a journal of half a GiB.
inline constexpr std::int64_t most_bytes_of_a_file = std::int64_t{2} << 30;

/// The whole file. A larger one is refused before it is read. Throws FileError; Interrupted when a signal comes.
std::vector<char> read_file(const std::string& path, std::int64_t most_bytes = most_bytes_of_a_file);

}  // namespace mobalab::experiments
