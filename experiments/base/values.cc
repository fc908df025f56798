#include "experiments/base/values.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/algorithm/string/erase.hpp>
#include <boost/algorithm/string/replace.hpp>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <system_error>
#include <utility>

#include "analysis/routing_point.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

constexpr std::size_t most_values = 100'000;

[[noreturn]] void refuse(std::string_view flag, std::string_view text, const std::string& rule) {
    throw InputError(fmt::format("{} = {}: {}", flag, text.empty() ? "(nothing)" : text, rule));
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\r\n";
    const std::size_t first = text.find_first_not_of(blanks);
    return first == std::string_view::npos ? std::string_view()
                                           : text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

enum class Reading { ok, not_a_number, not_whole, too_large, too_near_zero };

/// The double `text` spells, all of it.
Reading read_double(std::string_view text, double& value) {
    if (text.starts_with('+') && !text.starts_with("+-")) {
        text.remove_prefix(1);
    }
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || end != text.data() + text.size() || error == std::errc::invalid_argument) {
        return Reading::not_a_number;
    }
    if (error == std::errc::result_out_of_range) {
        return std::abs(std::strtod(std::string(text).c_str(), nullptr)) > 1.0 ? Reading::too_large
                                                                               : Reading::too_near_zero;
    }
    return Reading::ok;
}

/// Digits of a decimal without leading and trailing zeros.
std::size_t significant_digits(std::string_view text) {
    std::string digits;
    for (const char letter : text.substr(0, text.find_first_of("eE"))) {
        if (letter >= '0' && letter <= '9' && (letter != '0' || !digits.empty())) {
            digits += letter;
        }
    }
    return digits.find_last_not_of('0') + 1;
}

/// Digits, digits with an exponent (1e6), or digits with K (1024) or M (1024^2). What is not whole is rounded.
Reading read_integer(std::string_view text, std::int64_t& value) {
    std::int64_t factor = 1;
    if (text.ends_with('K') || text.ends_with('M')) {
        factor = text.back() == 'K' ? 1024 : 1024 * 1024;
        text.remove_suffix(1);
    }
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (end == text.data() + text.size() && error == std::errc()) {
        return __builtin_mul_overflow(value, factor, &value) ? Reading::too_large : Reading::ok;
    }
    double real = 0.0;
    switch (const Reading reading = read_double(text, real)) {
        case Reading::ok:
            break;
        case Reading::too_near_zero:
            value = 0;
            return Reading::not_whole;
        default:
            return reading;
    }
    if (!std::isfinite(real)) {
        return Reading::not_a_number;
    }
    const double scaled = real * static_cast<double>(factor);
    if (std::abs(scaled) > 9007199254740992.0) {  // 2^53: beyond it the double may not be what was typed
        return Reading::too_large;
    }
    value = std::llround(scaled);
    // With more digits the double may be whole where the number typed is not.
    return scaled == std::floor(scaled) && significant_digits(text) <= 15 ? Reading::ok : Reading::not_whole;
}

/// A number in the spellings people bring from elsewhere, as it is spelled here; it may be none all the same.
std::string respelled(std::string_view typed, bool whole) {
    std::string text(typed);
    for (const char* minus : {"\u2212", "\u2013"}) {
        boost::replace_all(text, minus, "-");
    }
    for (const char* separator : {"_", "'", "\u00a0", "\u202f"}) {
        boost::erase_all(text, separator);
    }
    if (text.starts_with("0x") || text.starts_with("0X")) {
        std::uint64_t value = 0;
        const auto [end, error] = std::from_chars(text.data() + 2, text.data() + text.size(), value, 16);
        return error == std::errc() && end == text.data() + text.size() ? std::to_string(value) : text;
    }
    double percent = 0.0;
    if (!whole && text.ends_with('%') &&
        read_double(trimmed(std::string_view(text).substr(0, text.size() - 1)), percent) == Reading::ok) {
        return fmt::format("{:.15g}", percent / 100.0);
    }
    if (const std::size_t comma = text.find(','); comma != std::string::npos) {  // never in a list: it is split there
        boost::replace_all(text, ",", whole || text.find(',', comma + 1) != std::string::npos ? "" : ".");
    }
    if (whole && (text.ends_with('k') || text.ends_with('m'))) {
        text.back() = text.back() == 'k' ? 'K' : 'M';
    }
    std::int64_t thousands = 0;
    if (whole && text.ends_with('G') &&
        read_integer(std::string_view(text).substr(0, text.size() - 1), thousands) == Reading::ok) {
        return fmt::format("{}M", 1024 * std::clamp<std::int64_t>(thousands, -1'000'000'000, 1'000'000'000));
    }
    return text;
}

/// "; nearest valid: ..." with `other`, which reads as `value`, or the end of the range it is beyond.
template <typename Value, typename Range>
std::string hint_of(const std::string& other, Value value, Range range) {
    const Value nearest = std::clamp<Value>(value, range.least, range.most);
    return fmt::format("; nearest valid: {}", nearest == value ? other : fmt::format("{}", nearest));
}

/// What to write instead of `text`, which is no number here.
std::string respelling_hint(std::string_view text, IntegerRange range) {
    const std::string other = respelled(text, true);
    std::int64_t value = 0;
    return other != text && read_integer(other, value) == Reading::ok ? hint_of(other, value, range) : "";
}

std::string respelling_hint(std::string_view text, RealRange range) {
    const std::string other = respelled(text, false);
    double value = 0.0;
    return other != text && read_double(other, value) == Reading::ok && !std::isnan(value)
               ? hint_of(other, value, range)
               : "";
}

std::string range_rule(std::string least, std::string most, bool bounded, const std::string& nearest) {
    return bounded ? fmt::format("must be between {} and {}; nearest valid: {}", least, most, nearest)
                   : fmt::format("must be at least {}; nearest valid: {}", least, nearest);
}

void check(std::string_view flag, std::string_view text, std::int64_t value, IntegerRange range) {
    if (value < range.least || value > range.most) {
        refuse(flag, text,
               range_rule(std::to_string(range.least), std::to_string(range.most),
                          range.most < no_limit || value > range.most,
                          std::to_string(std::clamp(value, range.least, range.most))));
    }
}

void check(std::string_view flag, std::string_view text, double value, RealRange range) {
    if (!(value >= range.least && value <= range.most)) {
        const double nearest = std::isnan(value) ? range.least : std::clamp(value, range.least, range.most);
        const bool percent = range.least >= 0.0 && range.most <= 1.0 && value >= 2.0 && value <= 100.0 &&
                             value / 100.0 >= range.least && value / 100.0 <= range.most;
        refuse(flag, text,
               range_rule(shortest(range.least), shortest(range.most), std::isfinite(range.most),
                          percent ? fmt::format("{:.15g} ({} %)", value / 100.0, shortest(value)) : shortest(nearest)));
    }
}

/// "a:b:xF" or "a:b:+S" taken apart.
struct RangeText {
    std::string_view first;
    std::string_view last;
    char step_kind;  // 'x' or '+'
    std::string_view step;
};

constexpr const char* range_form = "a range is FIRST:LAST:xFACTOR or FIRST:LAST:+STEP, like 16:512:x2 or 0.5:0.9:+0.1";

RangeText take_apart(std::string_view flag, std::string_view text) {
    const std::size_t one = text.find(':');
    const std::size_t two = text.find(':', one + 1);
    const std::string_view step = two == std::string_view::npos ? "" : trimmed(text.substr(two + 1));
    if (step.size() < 2 || step.find(':') != std::string_view::npos || (step[0] != 'x' && step[0] != '+')) {
        refuse(flag, text, range_form);
    }
    return {trimmed(text.substr(0, one)), trimmed(text.substr(one + 1, two - one - 1)), step[0], step.substr(1)};
}

/// Taken apart at its commas, each part without the blanks around it.
std::vector<std::string_view> split(std::string_view text) {
    std::vector<std::string_view> parts;
    for (std::size_t begin = 0;;) {
        const std::size_t comma = text.find(',', begin);
        parts.push_back(trimmed(text.substr(begin, comma - begin)));
        if (comma == std::string_view::npos) {
            return parts;
        }
        begin = comma + 1;
    }
}

void check_count(std::string_view flag, std::string_view text, std::size_t count) {
    if (count > most_values) {
        refuse(flag, text, fmt::format("a list holds at most {} values; use a larger step", most_values));
    }
}

void append_range(std::string_view flag, std::string_view text, IntegerRange range, std::vector<std::int64_t>& values) {
    const RangeText parts = take_apart(flag, text);
    const std::int64_t first = parse_integer(flag, parts.first, range);
    const std::int64_t last = parse_integer(flag, parts.last, range);
    const std::int64_t step =
        parse_integer(fmt::format("step of {}", flag), parts.step, {parts.step_kind == 'x' ? 2 : 1, INT64_MAX});
    if (first > last) {
        refuse(flag, text,
               fmt::format("a range goes upwards; nearest valid: {}:{}:{}{}", parts.last, parts.first, parts.step_kind,
                           parts.step));
    }
    if (parts.step_kind == 'x' && first < 1) {
        refuse(flag, text, "a range with a factor starts at 1 or more; use +STEP to start lower");
    }
    for (std::int64_t value = first; value <= last;) {
        values.push_back(value);
        check_count(flag, text, values.size());
        const bool overflow = parts.step_kind == 'x' ? __builtin_mul_overflow(value, step, &value)
                                                     : __builtin_add_overflow(value, step, &value);
        if (overflow) {
            break;
        }
    }
}

std::size_t decimals(std::string_view number) {
    const std::size_t point = number.find('.');
    return point == std::string_view::npos ? 0 : number.size() - point - 1;
}

void append_range(std::string_view flag, std::string_view text, RealRange range, std::vector<double>& values) {
    const RangeText parts = take_apart(flag, text);
    const double first = parse_real(flag, parts.first, range);
    const double last = parse_real(flag, parts.last, range);
    const bool factor = parts.step_kind == 'x';
    const double step =
        parse_real(fmt::format("step of {}", flag), parts.step, {0.0, std::numeric_limits<double>::max()});
    if (factor ? !(step > 1.0) : !(step > 0.0)) {
        refuse(flag, text, factor ? "the factor must be above 1" : "the step must be above 0");
    }
    if (first > last) {
        refuse(flag, text,
               fmt::format("a range goes upwards; nearest valid: {}:{}:{}{}", parts.last, parts.first, parts.step_kind,
                           parts.step));
    }
    if (factor && first <= 0.0) {
        refuse(flag, text, "a range with a factor starts above 0; use +STEP to start lower");
    }
    // Decimal notation (no exponent) is stepped in decimal: the k-th value is rounded to the digits the user wrote.
    const bool decimal =
        !factor && fmt::format("{}{}", parts.first, parts.step).find_first_of("eE") == std::string::npos;
    const int digits = static_cast<int>(std::max(decimals(parts.first), decimals(parts.step)));
    const double slack = factor ? last * (1.0 + 1e-12) : last + step * 1e-9;
    for (std::size_t k = 0;; ++k) {
        double value = factor ? first * std::pow(step, static_cast<double>(k)) : first + step * static_cast<double>(k);
        if (value > slack) {
            break;
        }
        if (decimal) {
            read_double(fmt::format("{:.{}f}", value, digits), value);
        }
        values.push_back(std::min(value, last));
        check_count(flag, text, values.size());
    }
}

/// "4-8", "4..8": a range as it is written elsewhere.
bool looks_like_a_range(std::string_view part) {
    const std::size_t dash = part.find('-', 1);
    const bool dashed = dash != std::string_view::npos && part[dash - 1] >= '0' && part[dash - 1] <= '9';
    return dashed || part.find("..") != std::string_view::npos;
}

/// Refuses a comma too many, and blanks in the place of commas.
void check_items(std::string_view flag, std::string_view text, std::vector<std::string_view> parts) {
    for (const std::string_view part : parts) {
        if (part.find(' ') != std::string_view::npos && part.find_first_of(":%") == std::string_view::npos) {
            std::string with_commas(part);
            std::replace(with_commas.begin(), with_commas.end(), ' ', ',');
            refuse(flag, part, fmt::format("a list has commas between its items; nearest valid: {}", with_commas));
        }
    }
    if (parts.size() > 1 && std::erase(parts, "") > 0) {
        refuse(flag, text,
               fmt::format("an item between its commas is missing{}{}",
                           parts.empty() ? "" : "; nearest valid: ", fmt::join(parts, ",")));
    }
}

template <typename Value, typename Range, typename ParseOne>
std::vector<Value> parse_list(std::string_view flag, std::string_view text, Range range, ParseOne parse_one) {
    std::vector<Value> values;
    const std::vector<std::string_view> parts = split(text);
    check_items(flag, text, parts);
    for (const std::string_view part : parts) {
        if (part.find(':') != std::string_view::npos || looks_like_a_range(part)) {
            append_range(flag, part, range, values);
        } else {
            values.push_back(parse_one(flag, part, range));
        }
        check_count(flag, text, values.size());
    }
    std::vector<Value> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end()) {
        refuse(flag, text, fmt::format("{} appears twice; a list names each value once", *twice));
    }
    return values;
}

/// Levenshtein's, one row of its table at a time.
std::size_t edit_distance(std::string_view word, std::string_view other) {
    std::vector<std::size_t> row(other.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < word.size(); ++i) {
        std::size_t diagonal = std::exchange(row[0], i + 1);
        for (std::size_t j = 0; j < other.size(); ++j) {
            const std::size_t replaced = diagonal + (word[i] == other[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
        }
    }
    return row.back();
}

}  // namespace

std::int64_t parse_integer(std::string_view flag, std::string_view text, IntegerRange range) {
    text = trimmed(text);
    std::int64_t value = 0;
    switch (read_integer(text, value)) {
        case Reading::ok:
        case Reading::too_near_zero:
            break;
        case Reading::not_a_number:
            refuse(flag, text,
                   fmt::format("must be a whole number, like 64, 8K (8192) or 1e6{}", respelling_hint(text, range)));
        case Reading::not_whole:
            refuse(
                flag, text,
                fmt::format("must be a whole number; nearest valid: {}", std::clamp(value, range.least, range.most)));
        case Reading::too_large:
            refuse(flag, text,
                   fmt::format("is too large; nearest valid: {}", text.starts_with('-') ? range.least : range.most));
    }
    check(flag, text, value, range);
    return value;
}

double parse_real(std::string_view flag, std::string_view text, RealRange range) {
    text = trimmed(text);
    double value = 0.0;
    switch (read_double(text, value)) {
        case Reading::ok:
            break;
        case Reading::too_large:
            check(flag, text, text.starts_with('-') ? -HUGE_VAL : HUGE_VAL, range);
            refuse(flag, text, "is too large for a double");
        case Reading::too_near_zero:
            refuse(flag, text,
                   fmt::format("is nearer to 0 than a double can be; nearest valid: {}",
                               shortest(std::clamp(0.0, range.least, range.most))));
        default:
            refuse(flag, text, fmt::format("must be a number, like 0.8 or 1e-6{}", respelling_hint(text, range)));
    }
    check(flag, text, value, range);
    return value;
}

double parse_inside(std::string_view flag, std::string_view text, OpenRange range) {
    text = trimmed(text);
    double value = 0.0;
    const Reading reading = read_double(text, value);
    if (reading == Reading::too_large) {
        value = text.starts_with('-') ? -HUGE_VAL : HUGE_VAL;
    } else if (reading != Reading::ok) {
        return parse_real(flag, text, {range.lowest, range.highest});  // which says what is no number
    }
    if (!(value > range.least && value < range.most)) {
        const std::string rule = std::isfinite(range.most)
                                     ? fmt::format("above {} and below {}", shortest(range.least), shortest(range.most))
                                     : fmt::format("a finite number above {}", shortest(range.least));
        refuse(flag, text,
               fmt::format("must be {}; nearest valid: {}", rule,
                           shortest(value >= range.most ? range.highest : range.lowest)));
    }
    return value;
}

std::vector<std::int64_t> parse_integers(std::string_view flag, std::string_view text, IntegerRange range) {
    return parse_list<std::int64_t>(flag, text, range, parse_integer);
}

std::vector<double> parse_reals(std::string_view flag, std::string_view text, RealRange range) {
    return parse_list<double>(flag, text, range, parse_real);
}

std::vector<std::string> parse_words(std::string_view flag, std::string_view text) {
    const std::vector<std::string_view> parts = split(text);
    check_items(flag, text, parts);
    if (parts.size() == 1 && parts[0].empty()) {
        refuse(flag, text, "a list is words with commas between them, none of them empty");
    }
    return {parts.begin(), parts.end()};
}

std::string nearest_word(std::string_view word, const std::vector<std::string>& accepted) {
    const auto nearest = std::min_element(accepted.begin(), accepted.end(), [&](const auto& left, const auto& right) {
        return edit_distance(word, left) < edit_distance(word, right);
    });
    return nearest == accepted.end() ? std::string() : *nearest;
}

std::string nearest_hint(std::string_view word, const std::vector<std::string>& accepted) {
    const std::string nearest = nearest_word(word, accepted);
    const std::size_t far = std::max(word.size(), nearest.size()) / 2 + 1;
    return edit_distance(word, nearest) < far ? fmt::format("; nearest valid: {}", nearest) : "";
}

std::string shortest(double value) {
    return fmt::format("{}", value);
}

}  // namespace mobalab::experiments
