#include "experiments/trace/file_bytes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "experiments/base/interrupt.h"

namespace mobalab::experiments {
namespace {

/// What is asked of the disk at once, and between two looks at signals.
constexpr std::int64_t window_bytes = std::int64_t{8} << 20;

bool same_time(const timespec& a, const timespec& b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

FileBytes::FileBytes(const std::string& path)
    : path_(path),
      file_(std::make_unique<FileDescriptor>(path, O_RDONLY, "cannot be read")),
      opened_(file_->regular(path)) {}

void FileBytes::read(std::int64_t offset, std::span<std::byte> bytes) const {
    while (!bytes.empty()) {
        const ssize_t count = ::pread(file_->get(), bytes.data(), bytes.size(), offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            fail_file(path_, "cannot be read", errno);
        }
        if (count == 0) {
            throw FileError(
                fmt::format("{}: ends at byte {}, in the middle of what it should hold; is it still being "
                            "written, or cut? Record or copy it again",
                            path_, offset));
        }
        bytes = bytes.subspan(static_cast<std::size_t>(count));
        offset += count;
    }
}

std::vector<std::byte> FileBytes::pieces(std::int64_t offset, std::int64_t piece, std::int64_t stride,
                                         std::int64_t count) const {
    std::vector<std::byte> bytes(static_cast<std::size_t>(piece * count));
    if (stride == piece) {  // no gaps: any length is a piece
        count = piece * count;
        piece = stride = 1;
    }
    const std::int64_t pieces_a_window = std::max<std::int64_t>(1, window_bytes / stride);
    std::byte* to = bytes.data();
    for (std::int64_t first = 0; first < count; first += pieces_a_window) {
        stop_if_interrupted();
        const std::int64_t here = std::min(pieces_a_window, count - first);
        const std::int64_t from = offset + first * stride;
        ::posix_fadvise(file_->get(), from, here * stride, POSIX_FADV_WILLNEED);
        if (stride == piece) {
            read(from, {to, static_cast<std::size_t>(here)});
        } else {
            for (std::int64_t i = 0; i < here; ++i) {
                read(from + i * stride, {to + i * piece, static_cast<std::size_t>(piece)});
            }
        }
        to += here * piece;
    }
    return bytes;
}

void FileBytes::check_unchanged() const {
    const struct stat now = file_->regular(path_);
    if (now.st_size != opened_.st_size || !same_time(now.st_mtim, opened_.st_mtim)) {
        throw FileError(
            fmt::format("{}: has changed since it was opened; start again when nothing writes to it", path_));
    }
}

void FileBytes::check_in_place() const {
    struct stat now {};
    if (::stat(path_.c_str(), &now) != 0 || now.st_dev != opened_.st_dev || now.st_ino != opened_.st_ino) {
        throw FileError(
            fmt::format("{}: was replaced since it was opened; start again when nothing writes to it", path_));
    }
}

}  // namespace mobalab::experiments
