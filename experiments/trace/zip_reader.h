#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "experiments/trace/file_bytes.h"
#include "experiments/trace/zip_directory.h"

namespace mobalab::experiments {

/// The contents of a member of a zip archive from its begin on, unpacked as they come. Memory is a few hundred KiB.
class ZipReader {
public:
    /// `file` outlives this.
    ZipReader(const FileBytes& file, const ZipMember& member, std::string name);
    ~ZipReader();
    ZipReader(const ZipReader&) = delete;
    ZipReader& operator=(const ZipReader&) = delete;

    /// The next bytes.size() bytes. Throws FileError when the member has not so many or is damaged.
    void read(std::span<std::byte> bytes);
    void skip(std::int64_t count);
    /// Reads what is left and throws FileError when the CRC-32 of all is not the member's.
    void finish();

private:
    [[noreturn]] void fail(const char* what) const;
    std::size_t unpack(std::span<std::byte> bytes);
    bool refill();

    const FileBytes& file_;
    ZipMember member_;
    std::string name_;
    std::int64_t taken_ = 0;  // of the stored bytes
    std::int64_t given_ = 0;  // of the contents
    std::uint32_t crc_ = 0;
    std::vector<std::byte> stored_;
    z_stream stream_{};
};

}  // namespace mobalab::experiments
