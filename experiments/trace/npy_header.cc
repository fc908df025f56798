#include "experiments/trace/npy_header.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <set>
#include <stdexcept>

#include "experiments/trace/checked_json.h"

namespace mobalab::experiments {
namespace {

/// Reads what numpy writes: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class Literal {
public:
    explicit Literal(std::string_view text) : rest_(text) {}

    NpyHeader header() {
        NpyHeader header;
        std::set<std::string> keys;
        expect("{");
        while (!take("}")) {
            const std::string key = quoted();
            expect(":");
            if (!keys.insert(key).second) {
                fail();
            } else if (key == "descr") {
                header.descr = type();
            } else if (key == "fortran_order") {
                header.fortran_order = take("True");
                if (!header.fortran_order) {
                    expect("False");
                }
            } else if (key == "shape") {
                header.shape = tuple();
            } else {
                fail();
            }
            if (!take(",")) {
                expect("}");
                break;
            }
        }
        blanks();
        if (!rest_.empty() || keys.size() != 3) {
            fail();
        }
        return header;
    }

private:
    [[noreturn]] void fail() const {
        throw std::runtime_error(fmt::format("its header is none that numpy writes, from \"{}\" on", shown(rest_)));
    }
    void blanks() {
        const std::size_t count = rest_.find_first_not_of(" \n");
        rest_.remove_prefix(count == std::string_view::npos ? rest_.size() : count);
    }
    bool take(std::string_view token) {
        blanks();
        const bool there = rest_.starts_with(token);
        rest_.remove_prefix(there ? token.size() : 0);
        return there;
    }
    void expect(std::string_view token) {
        if (!take(token)) {
            fail();
        }
    }
    std::string quoted() {
        expect("'");
        const std::size_t end = rest_.find('\'');
        if (end == std::string_view::npos) {
            fail();
        }
        std::string text(rest_.substr(0, end));
        rest_.remove_prefix(end + 1);
        return text;
    }
    std::string type() {
        blanks();
        if (rest_.starts_with('[')) {
            throw std::runtime_error("is an array of records; traces have plain arrays");
        }
        std::string text = quoted();
        if (text.find('O') != std::string::npos) {
            throw std::runtime_error("holds pickled objects, which are never loaded; give it a plain dtype");
        }
        return text;
    }
    std::vector<std::int64_t> tuple() {
        std::vector<std::int64_t> values;
        expect("(");
        while (!take(")")) {
            blanks();
            std::int64_t value = 0;
            const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
            if (error != std::errc() || value < 0) {
                fail();
            }
            rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
            values.push_back(value);
            if (!take(",")) {
                expect(")");
                break;
            }
        }
        return values;
    }

    std::string_view rest_;
};

}  // namespace

NpyHeaderPlace npy_header_place(std::string_view start) {
    if (start.size() < npy_start_bytes || !start.starts_with("\x93NUMPY")) {
        throw std::runtime_error("is no .npy file");
    }
    const int version = start[6];
    if (version < 1 || version > 3 || start[7] != 0) {
        throw std::runtime_error(
            fmt::format("is a .npy file of version {}.{}; versions 1 to 3 are read", version, int{start[7]}));
    }
    std::uint16_t short_length = 0;
    std::uint32_t length = 0;
    std::memcpy(&short_length, start.data() + 8, sizeof short_length);
    std::memcpy(&length, start.data() + 8, sizeof length);
    const std::int64_t begin = version == 1 ? 10 : 12;
    const std::int64_t bytes = version == 1 ? std::int64_t{short_length} : std::int64_t{length};
    if (bytes > most_npy_header_bytes) {
        throw std::runtime_error(
            fmt::format("has a header of {} bytes, at most {} are read", bytes, most_npy_header_bytes));
    }
    return {begin, begin + bytes};
}

NpyHeader parse_npy_header(std::string_view text) {
    return Literal(text).header();
}

}  // namespace mobalab::experiments
