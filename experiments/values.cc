#include "experiments/values.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
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

/// The double `text` spells, all of it; nothing otherwise.
bool read_double(std::string_view text, double& value) {
    if (text.starts_with('+') && !text.starts_with("+-")) {
        text.remove_prefix(1);
    }
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

enum class Reading { ok, not_a_number, not_whole, too_large };

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

/// Digits, digits with an exponent (1e6), or digits with K (1024) or M (1024^2).
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
    if (!read_double(text, real) || !std::isfinite(real)) {
        return error == std::errc::result_out_of_range ? Reading::too_large : Reading::not_a_number;
    }
    const double scaled = real * static_cast<double>(factor);
    if (scaled != std::floor(scaled)) {
        return Reading::not_whole;
    }
    if (std::abs(scaled) > 9007199254740992.0) {  // 2^53: beyond it the double may not be what was typed
        return Reading::too_large;
    }
    if (significant_digits(text) > 15) {  // the double may be whole where the number typed is not
        return Reading::not_whole;
    }
    value = static_cast<std::int64_t>(scaled);
    return Reading::ok;
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
        refuse(flag, text,
               range_rule(shortest(range.least), shortest(range.most), std::isfinite(range.most), shortest(nearest)));
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
    if (two == std::string_view::npos || text.find(':', two + 1) != std::string_view::npos || two + 2 >= text.size() ||
        (text[two + 1] != 'x' && text[two + 1] != '+')) {
        refuse(flag, text, range_form);
    }
    return {text.substr(0, one), text.substr(one + 1, two - one - 1), text[two + 1], text.substr(two + 2)};
}

std::vector<std::string_view> split(std::string_view text) {
    std::vector<std::string_view> parts;
    for (std::size_t begin = 0;;) {
        const std::size_t comma = text.find(',', begin);
        parts.push_back(text.substr(begin, comma - begin));
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
    const double step = parse_real(fmt::format("step of {}", flag), parts.step, {0.0, HUGE_VAL});
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

template <typename Value, typename Range, typename ParseOne>
std::vector<Value> parse_list(std::string_view flag, std::string_view text, Range range, ParseOne parse_one) {
    std::vector<Value> values;
    for (const std::string_view part : split(text)) {
        if (part.find(':') != std::string_view::npos) {
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
    std::int64_t value = 0;
    switch (read_integer(text, value)) {
        case Reading::ok:
            break;
        case Reading::not_a_number:
            refuse(flag, text, "must be a whole number, like 64, 8K (8192) or 1e6");
        case Reading::not_whole: {
            double real = 0.0;
            read_double(text, real);
            refuse(flag, text, fmt::format("must be a whole number; nearest valid: {:.0f}", std::round(real)));
        }
        case Reading::too_large:
            refuse(flag, text,
                   fmt::format("is too large; nearest valid: {}", text.starts_with('-') ? range.least : range.most));
    }
    check(flag, text, value, range);
    return value;
}

double parse_real(std::string_view flag, std::string_view text, RealRange range) {
    double value = 0.0;
    if (!read_double(text, value)) {
        refuse(flag, text, "must be a number, like 0.8 or 1e-6");
    }
    check(flag, text, value, range);
    return value;
}

std::vector<std::int64_t> parse_integers(std::string_view flag, std::string_view text, IntegerRange range) {
    return parse_list<std::int64_t>(flag, text, range, parse_integer);
}

std::vector<double> parse_reals(std::string_view flag, std::string_view text, RealRange range) {
    return parse_list<double>(flag, text, range, parse_real);
}

std::vector<std::string> parse_words(std::string_view flag, std::string_view text) {
    std::vector<std::string> words;
    for (const std::string_view part : split(text)) {
        if (part.empty()) {
            refuse(flag, text, "a list is words with commas between them, none of them empty");
        }
        words.emplace_back(part);
    }
    return words;
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
