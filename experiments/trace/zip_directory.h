#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "experiments/trace/file_bytes.h"

namespace mobalab::experiments {

/// A file inside a zip archive.
struct ZipMember {
    bool deflated = false;          ///< by zlib's raw deflate; else stored as it is
    std::uint32_t crc = 0;          ///< CRC-32 of the contents
    std::int64_t stored_bytes = 0;  ///< in the archive
    std::int64_t bytes = 0;         ///< of the contents
    std::int64_t offset = 0;        ///< of the stored bytes in the archive
};

/// The members by name, from the central directory of a zip or zip64 archive (PKWARE APPNOTE 6.3) in one piece. Members
/// lie inside the archive and do not overlap, and what the directory says of them is what stands before them. Throws
/// FileError, also for what numpy does not write: encryption, other methods than stored and deflated, a name that comes
/// twice.
std::map<std::string, ZipMember> zip_members(const FileBytes& file);

}  // namespace mobalab::experiments
