#include "experiments/trace/zip_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "experiments/trace/checked_json.h"

namespace mobalab::experiments {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are taken from the file as they are");

constexpr std::uint32_t local_mark = 0x04034b50;
constexpr std::uint32_t directory_mark = 0x02014b50;
constexpr std::uint32_t end_mark = 0x06054b50;
constexpr std::uint32_t end64_mark = 0x06064b50;
constexpr std::uint32_t locator64_mark = 0x07064b50;
constexpr std::uint32_t see_zip64 = 0xffffffff;
constexpr std::int64_t most_directory_bytes = std::int64_t{16} << 20;
/// deflate makes at most 1032 bytes of one.
constexpr std::int64_t most_expansion = 1032;

class Directory {
public:
    explicit Directory(const FileBytes& file) : file_(file) {}

    std::map<std::string, ZipMember> members() {
        find_directory();
        std::map<std::string, ZipMember> members;
        std::size_t at = 0;
        for (std::uint64_t i = 0; i < entries_; ++i) {
            auto [name, member] = entry(at);
            if (!members.emplace(name, member).second) {
                fail("two members are called {}", shown(name));
            }
        }
        if (at != directory_.size()) {
            fail("the directory is longer than its {} members", entries_);
        }
        check_apart(members);
        return members;
    }

private:
    template <typename... Arguments>
    [[noreturn]] void fail(fmt::format_string<Arguments...> format, Arguments&&... arguments) const {
        throw FileError(fmt::format("{}: damaged zip archive: {}; write it again with numpy.savez", file_.path(),
                                    fmt::format(format, std::forward<Arguments>(arguments)...)));
    }

    template <typename Number>
    static Number number(std::span<const char> bytes, std::size_t at) {
        Number value;
        std::memcpy(&value, bytes.subspan(at, sizeof value).data(), sizeof value);
        return value;
    }

    std::vector<char> bytes_at(std::int64_t offset, std::int64_t count) const {
        if (offset < 0 || count < 0 || offset > file_.size() - count) {
            fail("it speaks of bytes {} to {} of {}", offset,
                 static_cast<std::uint64_t>(offset) + static_cast<std::uint64_t>(count), file_.size());
        }
        std::vector<char> bytes(static_cast<std::size_t>(count));
        file_.read(offset, std::as_writable_bytes(std::span(bytes)));
        return bytes;
    }

    /// Archives of numpy have no comment, so the end record is the last 22 bytes.
    void find_directory() {
        constexpr std::int64_t end_bytes = 22;
        constexpr std::int64_t locator_bytes = 20;
        constexpr std::int64_t end64_bytes = 56;
        const std::vector<char> end = bytes_at(file_.size() - end_bytes, end_bytes);
        if (number<std::uint32_t>(end, 0) != end_mark) {
            fail("it does not end with its directory (cut, or with something behind it)");
        }
        entries_ = number<std::uint16_t>(end, 10);
        std::uint64_t size = number<std::uint32_t>(end, 12);
        std::uint64_t offset = number<std::uint32_t>(end, 16);
        std::int64_t directory_end = file_.size() - end_bytes;
        if (entries_ == 0xffff || size == see_zip64 || offset == see_zip64) {
            const std::vector<char> locator = bytes_at(directory_end - locator_bytes, locator_bytes);
            directory_end -= locator_bytes + end64_bytes;
            const std::vector<char> end64 = bytes_at(directory_end, end64_bytes);
            if (number<std::uint32_t>(locator, 0) != locator64_mark || number<std::uint32_t>(end64, 0) != end64_mark ||
                number<std::int64_t>(locator, 8) != directory_end) {
                fail("its zip64 end records are wrong");
            }
            entries_ = number<std::uint64_t>(end64, 32);
            size = number<std::uint64_t>(end64, 40);
            offset = number<std::uint64_t>(end64, 48);
        }
        if (size > static_cast<std::uint64_t>(std::min(most_directory_bytes, directory_end)) ||
            offset != static_cast<std::uint64_t>(directory_end) - size) {
            fail("its directory of {} bytes at byte {} does not end at byte {}", size, offset, directory_end);
        }
        begin_ = static_cast<std::int64_t>(offset);
        directory_ = bytes_at(begin_, static_cast<std::int64_t>(size));
    }

    /// The entry at `at`, which moves behind it.
    std::pair<std::string, ZipMember> entry(std::size_t& at) const {
        constexpr std::size_t fixed = 46;
        const std::span<const char> rest = std::span(directory_).subspan(at);
        if (rest.size() < fixed || number<std::uint32_t>(rest, 0) != directory_mark) {
            fail("no member stands at byte {} of its directory", at);
        }
        const std::size_t name_bytes = number<std::uint16_t>(rest, 28);
        const std::size_t extra_bytes = number<std::uint16_t>(rest, 30);
        const std::size_t comment_bytes = number<std::uint16_t>(rest, 32);
        if (rest.size() < fixed + name_bytes + extra_bytes + comment_bytes) {
            fail("its directory is cut");
        }
        const std::string name(rest.data() + fixed, name_bytes);
        const auto flags = number<std::uint16_t>(rest, 8);
        const auto method = number<std::uint16_t>(rest, 10);
        if ((flags & 1) != 0 || (method != 0 && method != 8)) {
            fail("member {} is {}", shown(name),
                 (flags & 1) != 0 ? "encrypted" : fmt::format("packed by method {}", method));
        }
        std::array<std::uint64_t, 3> sizes = {number<std::uint32_t>(rest, 24), number<std::uint32_t>(rest, 20),
                                              number<std::uint32_t>(rest, 42)};  // contents, stored, local header
        read_zip64(rest.subspan(fixed + name_bytes, extra_bytes), sizes);
        ZipMember member{method == 8, number<std::uint32_t>(rest, 16), 0, 0, 0};
        place(name, member, sizes);
        at += fixed + name_bytes + extra_bytes + comment_bytes;
        return {name, member};
    }

    /// Sizes of all ones stand in the extra field 1, in order.
    void read_zip64(std::span<const char> extra, std::array<std::uint64_t, 3>& sizes) const {
        while (extra.size() >= 4) {
            const auto id = number<std::uint16_t>(extra, 0);
            const std::size_t length = number<std::uint16_t>(extra, 2);
            if (length > extra.size() - 4) {
                break;
            }
            std::span<const char> field = extra.subspan(4, length);
            for (std::uint64_t& size : sizes) {
                if (id == 1 && size == see_zip64 && field.size() >= 8) {
                    size = number<std::uint64_t>(field, 0);
                    field = field.subspan(8);
                }
            }
            extra = extra.subspan(4 + length);
        }
    }

    /// Checks the sizes and the local header, behind which the member stands.
    void place(const std::string& name, ZipMember& member, const std::array<std::uint64_t, 3>& sizes) const {
        constexpr std::int64_t fixed = 30;
        const auto [contents, stored, local_offset] = sizes;
        const auto end = static_cast<std::uint64_t>(begin_);
        if (stored > end || local_offset > end || contents > static_cast<std::uint64_t>(INT64_MAX) ||
            (member.deflated ? contents / most_expansion > stored : contents != stored)) {
            fail("member {} cannot be {} bytes, stored in {}, at byte {}", shown(name), contents, stored, local_offset);
        }
        const auto local = static_cast<std::int64_t>(local_offset);
        const std::vector<char> header = bytes_at(local, fixed);
        const auto name_bytes = static_cast<std::int64_t>(number<std::uint16_t>(header, 26));
        const std::vector<char> local_name = bytes_at(local + fixed, name_bytes);
        if (number<std::uint32_t>(header, 0) != local_mark ||
            std::string_view(local_name.data(), local_name.size()) != name ||
            number<std::uint16_t>(header, 8) != (member.deflated ? 8 : 0)) {
            fail("member {} does not stand at byte {}, where the directory has it", shown(name), local);
        }
        member.bytes = static_cast<std::int64_t>(contents);
        member.stored_bytes = static_cast<std::int64_t>(stored);
        member.offset = local + fixed + name_bytes + number<std::uint16_t>(header, 28);
        if (member.offset > begin_ - member.stored_bytes) {
            fail("member {} reaches into the directory", shown(name));
        }
    }

    void check_apart(const std::map<std::string, ZipMember>& members) const {
        std::vector<std::array<std::int64_t, 2>> spans;
        for (const auto& [name, member] : members) {
            spans.push_back({member.offset, member.offset + member.stored_bytes});
        }
        std::sort(spans.begin(), spans.end());
        for (std::size_t i = 1; i < spans.size(); ++i) {
            if (spans[i][0] < spans[i - 1][1]) {
                fail("members overlap at byte {}", spans[i][0]);
            }
        }
    }

    const FileBytes& file_;
    std::uint64_t entries_ = 0;
    std::int64_t begin_ = 0;  // of the directory
    std::vector<char> directory_;
};

}  // namespace

std::map<std::string, ZipMember> zip_members(const FileBytes& file) {
    return Directory(file).members();
}

}  // namespace mobalab::experiments
