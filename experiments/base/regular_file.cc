#include "experiments/base/regular_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "experiments/base/interrupt.h"

namespace mobalab::experiments {
namespace {

/// What stands in the place of a file.
std::string kind_of(mode_t mode) {
    return S_ISDIR(mode)    ? "a folder"
           : S_ISFIFO(mode) ? "a pipe"
           : S_ISSOCK(mode) ? "a socket"
           : S_ISCHR(mode)  ? "a device"
           : S_ISBLK(mode)  ? "a device"
                            : "no regular file";
}

[[noreturn]] void refuse_kind(const std::string& path, mode_t mode) {
    throw FileError(fmt::format("{}: is {}; give the path of a regular file", path, kind_of(mode)));
}

}  // namespace

void fail_file(const std::string& path, const char* what, int error) {
    throw FileError(fmt::format("{}: {}: {}", path, what, std::strerror(error)));
}

FileDescriptor::FileDescriptor(const std::string& path, int flags, const std::string& shown_path, const char* what)
    // NONBLOCK: a pipe is opened, and refused, without waiting for its other end; regular files do not know it
    : value_(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644)) {
    if (value_ < 0) {
        const int error = errno;
        struct stat found {};
        if (error == ENXIO && ::stat(path.c_str(), &found) == 0) {  // a socket, a pipe that nobody reads
            refuse_kind(path, found.st_mode);
        }
        fail_file(shown_path, what, error);
    }
}

FileDescriptor::~FileDescriptor() {
    if (value_ >= 0) {
        ::close(value_);
    }
}

struct stat FileDescriptor::regular(const std::string& path) const {
    struct stat found {};
    if (::fstat(value_, &found) != 0) {
        fail_file(path, "cannot be read", errno);
    }
    if (!S_ISREG(found.st_mode)) {
        refuse_kind(path, found.st_mode);
    }
    return found;
}

int FileDescriptor::release() {
    return std::exchange(value_, -1);
}

std::vector<char> read_file(const std::string& path, std::int64_t most_bytes) {
    const FileDescriptor file(path, O_RDONLY, "cannot be read");
    const auto size = static_cast<std::int64_t>(file.regular(path).st_size);
    std::vector<char> bytes;
    bytes.reserve(static_cast<std::size_t>(std::min(size, most_bytes)));
    char buffer[1 << 16];
    for (;;) {
        if (std::max(size, std::ssize(bytes)) > most_bytes) {  // it may grow, and files of /proc say 0
            throw FileError(fmt::format("{}: is larger than the {} KiB such a file may have", path, most_bytes >> 10));
        }
        stop_if_interrupted();
        const ssize_t count = ::read(file.get(), buffer, sizeof buffer);
        if (count == 0) {
            return bytes;
        }
        if (count < 0) {
            fail_file(path, "cannot be read", errno);
        }
        bytes.insert(bytes.end(), buffer, buffer + count);
    }
}

}  // namespace mobalab::experiments
