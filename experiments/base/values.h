#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace mobalab::experiments {

// Numbers as users write them. Every function throws analysis::InputError that names the flag, the value, the rule and
// the nearest valid choice.
//
//   64        0.8      1e6       8K (8192)      2M (2 * 1024^2)     whole numbers may use 1e6, K and M
//   64,128    16:512:x2 (16, 32, ..., 512)      0.5:0.9:+0.1        lists and ranges, ends included, in any mix
//
// Blanks around a number or a word do not count. Numbers people write otherwise (1_000, 0x40, 10k, 95 %) are refused
// with what to write instead.

/// From here on an upper limit is only the size of the integer, and errors do not speak of it.
inline constexpr std::int64_t no_limit = std::numeric_limits<std::int32_t>::max();

struct IntegerRange {
    std::int64_t least;
    std::int64_t most;
};

struct RealRange {
    double least;
    double most;
};

/// Numbers above `least` and below `most`, neither of which is one of them.
struct OpenRange {
    double least;
    double most;    ///< infinity: finite numbers
    double lowest;  ///< what to take instead of one that is too low (or NaN), and too high
    double highest;
};

std::int64_t parse_integer(std::string_view flag, std::string_view text, IntegerRange range);
double parse_real(std::string_view flag, std::string_view text, RealRange range);
double parse_inside(std::string_view flag, std::string_view text, OpenRange range);
std::vector<std::int64_t> parse_integers(std::string_view flag, std::string_view text, IntegerRange range);

/// The values of an additive range are the decimals one would write by hand: 0.5:0.9:+0.1 holds 0.7, not
/// 0.7000000000000001.
std::vector<double> parse_reals(std::string_view flag, std::string_view text, RealRange range);

/// Comma-separated words; empty ones are an error.
std::vector<std::string> parse_words(std::string_view flag, std::string_view text);

/// The accepted word nearest to `word` in edit distance.
std::string nearest_word(std::string_view word, const std::vector<std::string>& accepted);

/// "; nearest valid: ..." when one of the words is near enough to have been meant, else empty.
std::string nearest_hint(std::string_view word, const std::vector<std::string>& accepted);

/// Shortest decimal that reads back as the same double; "inf", "-inf", "nan".
std::string shortest(double value);

}  // namespace mobalab::experiments
