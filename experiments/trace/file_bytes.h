#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "experiments/base/regular_file.h"

namespace mobalab::experiments {

/// An open regular file whose bytes are read where they are wanted.
///
/// With pread(), not through a mapping: a mapped file that another program cuts ends this one by SIGBUS. One head of
/// 128K tokens x 32 heads x 128 channels in 16 bits, 128K pieces of 256 bytes, took (two cores, busy) from the page
/// cache 0.15 s piece by piece, 0.14 to 0.19 s mapped and 0.37 to 0.53 s in whole rows; from the disk 1.0 to 1.6 s, 0.5
/// s and 0.6 s. So: piece by piece, and the kernel is told ahead what comes.
class FileBytes {
public:
    /// Throws FileError.
    explicit FileBytes(const std::string& path);

    const std::string& path() const { return path_; }
    std::int64_t size() const { return opened_.st_size; }
    int descriptor() const { return file_->get(); }

    /// bytes.size() bytes from `offset` on. Throws FileError where the file has not so many.
    void read(std::int64_t offset, std::span<std::byte> bytes) const;

    /// `count` pieces of `piece` bytes, the first at `offset`, each `stride` >= piece bytes behind the one before, side
    /// by side. The pieces lie inside the file. Throws FileError; Interrupted when a signal comes.
    std::vector<std::byte> pieces(std::int64_t offset, std::int64_t piece, std::int64_t stride,
                                  std::int64_t count) const;

    /// Throws FileError when the file has another length or time of change than when it was opened.
    void check_unchanged() const;
    /// Throws FileError when the path names another file by now.
    void check_in_place() const;

private:
    std::string path_;
    std::unique_ptr<FileDescriptor> file_;
    struct stat opened_;
};

}  // namespace mobalab::experiments
