#include "experiments/trace/zip_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "experiments/base/interrupt.h"
#include "experiments/trace/checked_json.h"

namespace mobalab::experiments {
namespace {

constexpr std::int64_t buffer_bytes = 256 << 10;

}  // namespace

ZipReader::ZipReader(const FileBytes& file, const ZipMember& member, std::string name)
    : file_(file), member_(member), name_(std::move(name)) {
    if (inflateInit2(&stream_, -MAX_WBITS) != Z_OK) {  // negative: deflate as it is, without zlib's header
        throw std::bad_alloc();
    }
}

ZipReader::~ZipReader() {
    inflateEnd(&stream_);
}

void ZipReader::fail(const char* what) const {
    throw FileError(
        fmt::format("{}: member {}: {}; write it again with numpy.savez", file_.path(), shown(name_), what));
}

/// Takes the next stored bytes; false at their end.
bool ZipReader::refill() {
    stop_if_interrupted();
    stored_.resize(static_cast<std::size_t>(std::min(buffer_bytes, member_.stored_bytes - taken_)));
    file_.read(member_.offset + taken_, stored_);
    taken_ += std::ssize(stored_);
    stream_.next_in = reinterpret_cast<Bytef*>(stored_.data());
    stream_.avail_in = static_cast<uInt>(stored_.size());
    return !stored_.empty();
}

/// Some of the next bytes, at least one.
std::size_t ZipReader::unpack(std::span<std::byte> bytes) {
    for (;;) {
        if (stream_.avail_in == 0 && !refill()) {
            fail("is shorter than the archive says");
        }
        stream_.next_out = reinterpret_cast<Bytef*>(bytes.data());
        stream_.avail_out = static_cast<uInt>(std::min<std::size_t>(bytes.size(), buffer_bytes));
        const uInt room = stream_.avail_out;
        const int code = inflate(&stream_, Z_NO_FLUSH);
        const std::size_t count = room - stream_.avail_out;
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
            fail("is damaged: it cannot be unpacked");
        }
        if (count > 0) {
            return count;
        }
        if (code == Z_STREAM_END) {
            fail("is shorter than the archive says");
        }
    }
}

void ZipReader::read(std::span<std::byte> bytes) {
    if (std::ssize(bytes) > member_.bytes - given_) {
        fail("ends in the middle of its array");
    }
    while (!bytes.empty()) {
        std::size_t count = 0;
        if (member_.deflated) {
            count = unpack(bytes);
        } else {
            count = std::min<std::size_t>(bytes.size(), buffer_bytes);
            stop_if_interrupted();
            file_.read(member_.offset + given_, bytes.first(count));
        }
        crc_ = static_cast<std::uint32_t>(
            crc32(crc_, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(count)));
        given_ += static_cast<std::int64_t>(count);
        bytes = bytes.subspan(count);
    }
}

void ZipReader::skip(std::int64_t count) {
    std::vector<std::byte> nowhere(static_cast<std::size_t>(std::min(count, buffer_bytes)));
    while (count > 0) {
        const std::int64_t here = std::min(count, std::ssize(nowhere));
        read(std::span(nowhere).first(static_cast<std::size_t>(here)));
        count -= here;
    }
}

void ZipReader::finish() {
    skip(member_.bytes - given_);
    if (crc_ != member_.crc) {
        fail("is damaged: its CRC-32 is not the archive's");
    }
}

}  // namespace mobalab::experiments
