#include "experiments/results/journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/crc.hpp>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <system_error>

#include "experiments/results/results_file.h"

namespace mobalab::experiments {
namespace {

constexpr const char* format_key = "format";
constexpr const char* format_name = "mobalab journal 1";

std::string checksum(std::string_view text) {
    boost::crc_32_type crc;
    crc.process_bytes(text.data(), text.size());
    return fmt::format("{:08x}", crc.checksum());
}

std::string line_of(const std::string& text) {
    return checksum(text) + " " + text + "\n";
}

std::string record_line(std::int64_t key, const std::string& payload) {
    return line_of(fmt::format("{} {}", key, payload));
}

/// The text of a whole, undamaged line.
std::optional<std::string_view> text_of(std::string_view line) {
    if (line.size() < 10 || line.back() != '\n' || line[8] != ' ') {
        return std::nullopt;
    }
    const std::string_view text = line.substr(9, line.size() - 10);
    return checksum(text) == line.substr(0, 8) ? std::optional(text) : std::nullopt;
}

std::string_view take_line(std::string_view& rest) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end == std::string_view::npos ? end : end + 1);
    rest.remove_prefix(line.size());
    return line;
}

std::pair<std::int64_t, std::string> parse_record(std::string_view text, const std::string& path) {
    std::int64_t key = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), key);
    if (error != std::errc() || end == text.data() + text.size() || *end != ' ') {
        throw FileError(path + ": is damaged (a record without a key); --force starts afresh");
    }
    return {key, std::string(end + 1, text.data() + text.size())};
}

Journal::Header parse_header(std::string_view first_line, const std::string& path) {
    const std::optional<std::string_view> text = text_of(first_line);
    const nlohmann::json header = text ? nlohmann::json::parse(*text, nullptr, false) : nlohmann::json();
    const bool all_texts =
        header.is_object() &&
        std::all_of(header.begin(), header.end(), [](const nlohmann::json& value) { return value.is_string(); });
    if (!all_texts || header.value(format_key, "") != format_name) {
        throw FileError(path + ": is not a journal of this mobalab; move it away or start afresh with --force");
    }
    return header.get<Journal::Header>();
}

}  // namespace

Journal Journal::create(const std::string& path, const Header& header, Records records) {
    Journal journal(path, header);
    journal.records_ = std::move(records);
    journal.header_[format_key] = format_name;
    journal.compact();
    return journal;
}

Journal Journal::resume(const std::string& path) {
    const std::vector<char> bytes = read_file(path);
    const std::string_view whole(bytes.data(), bytes.size());
    std::string_view rest = whole;
    Journal journal(path, parse_header(take_line(rest), path));
    std::size_t good = whole.size() - rest.size();
    while (!rest.empty()) {
        const std::optional<std::string_view> text = text_of(take_line(rest));
        if (text) {
            const auto [key, payload] = parse_record(*text, path);
            journal.records_[key] = payload;
            good = whole.size() - rest.size();
        } else if (!rest.empty()) {
            throw FileError(path + ": is damaged in the middle; start afresh with --force");
        }
    }
    journal.file_ = std::make_unique<AppendFile>(path, good);
    journal.size_ = good;
    return journal;
}

void Journal::record(std::int64_t key, const std::string& payload) {
    const std::string line = record_line(key, payload);
    file_->append(line);
    size_ += line.size();
    records_[key] = payload;
    if (size_ > compaction_size_) {
        compact();
        // A journal that is large with its last records alone must not be rewritten at every record.
        compaction_size_ = std::max(compaction_size_, 2 * size_);
    }
}

std::string Journal::compact_text() const {
    std::string text = line_of(nlohmann::json(header_).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    for (const auto& [key, payload] : records_) {
        text += record_line(key, payload);
    }
    return text;
}

void Journal::compact() {
    const std::string text = compact_text();
    write_file_atomically(path_, text);
    file_ = std::make_unique<AppendFile>(path_, text.size());
    size_ = text.size();
}

}  // namespace mobalab::experiments
