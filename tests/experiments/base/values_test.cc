#include "experiments/base/values.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "analysis/routing_point.h"

namespace mobalab::experiments {
namespace {

constexpr IntegerRange sizes{1, 1'000'000'000};

template <typename Call>
std::string refusal(Call call) {
    try {
        call();
    } catch (const analysis::InputError& error) {
        return error.what();
    }
    return "accepted";
}

std::string refused_integers(const std::string& text) {
    return refusal([&] { parse_integers("block-size", text, sizes); });
}

std::string refused_reals(const std::string& text) {
    return refusal([&] { parse_reals("mu-signal", text, {0.0, 1.0}); });
}

TEST(Values, WholeNumbersInEveryNotation) {
    EXPECT_EQ(parse_integer("n", "64", sizes), 64);
    EXPECT_EQ(parse_integer("n", "8K", sizes), 8192);
    EXPECT_EQ(parse_integer("n", "2M", sizes), 2 * 1024 * 1024);
    EXPECT_EQ(parse_integer("n", "0.5K", sizes), 512);
    EXPECT_EQ(parse_integer("n", "1e6", sizes), 1'000'000);
    EXPECT_EQ(parse_integer("n", "2.5e3", sizes), 2500);
    EXPECT_EQ(parse_integer("n", "9223372036854775807", {0, INT64_MAX}), INT64_MAX);
}

TEST(Values, ListsAndRanges) {
    using Integers = std::vector<std::int64_t>;
    EXPECT_EQ(parse_integers("n", "64,128", sizes), (Integers{64, 128}));
    EXPECT_EQ(parse_integers("n", "16:512:x2", sizes), (Integers{16, 32, 64, 128, 256, 512}));
    EXPECT_EQ(parse_integers("n", "16:100:x2", sizes), (Integers{16, 32, 64}));
    EXPECT_EQ(parse_integers("n", "1:7:+3,100", sizes), (Integers{1, 4, 7, 100}));
    EXPECT_EQ(parse_integers("n", "8K:32K:x2", sizes), (Integers{8192, 16384, 32768}));
    EXPECT_EQ(parse_integers("n", "5:5:x2", sizes), (Integers{5}));
    EXPECT_EQ(parse_integers("n", "4611686018427387904:9223372036854775807:x2", {1, INT64_MAX}),
              (Integers{4611686018427387904}));
}

TEST(Values, AdditiveRangesHoldTheDecimalsOneWouldType) {
    EXPECT_EQ(parse_reals("x", "0.5:0.9:+0.1", {0, 1}), (std::vector<double>{0.5, 0.6, 0.7, 0.8, 0.9}));
    EXPECT_EQ(parse_reals("x", "0:0.3:+0.1", {0, 1}), (std::vector<double>{0, 0.1, 0.2, 0.3}));
    EXPECT_EQ(parse_reals("x", "-0.25:0.1:+0.05", {-1, 1}),
              (std::vector<double>{-0.25, -0.2, -0.15, -0.1, -0.05, 0, 0.05, 0.1}));
    EXPECT_EQ(parse_reals("x", "1e-3:1e-1:x10", {0, 1}).size(), 3U);
    const std::vector<double> thousandth = parse_reals("x", "0:1:+0.001", {0, 1});
    ASSERT_EQ(thousandth.size(), 1001U);
    EXPECT_EQ(thousandth[573], 0.573);
    EXPECT_EQ(thousandth.back(), 1.0);
}

TEST(Values, RefusedIntegers) {
    EXPECT_EQ(refused_integers("0"), "block-size = 0: must be between 1 and 1000000000; nearest valid: 1");
    EXPECT_EQ(refused_integers("2e9"), "block-size = 2e9: must be between 1 and 1000000000; nearest valid: 1000000000");
    EXPECT_EQ(refused_integers("x"), "block-size = x: must be a whole number, like 64, 8K (8192) or 1e6");
    EXPECT_EQ(refused_integers(""), "block-size = (nothing): must be a whole number, like 64, 8K (8192) or 1e6");
    EXPECT_EQ(refused_integers("64,"), "block-size = 64,: an item between its commas is missing; nearest valid: 64");
    EXPECT_EQ(refused_integers("64,,32"),
              "block-size = 64,,32: an item between its commas is missing; nearest valid: 64,32");
    EXPECT_EQ(refused_integers(","), "block-size = ,: an item between its commas is missing");
    EXPECT_EQ(refused_integers("inf"), "block-size = inf: must be a whole number, like 64, 8K (8192) or 1e6");
    EXPECT_EQ(refused_integers("64.4"), "block-size = 64.4: must be a whole number; nearest valid: 64");
    EXPECT_EQ(refused_integers("+-5"), "block-size = +-5: must be a whole number, like 64, 8K (8192) or 1e6");
    // Its double is whole.
    EXPECT_EQ(refused_integers("1000000.00000000001"),
              "block-size = 1000000.00000000001: must be a whole number; nearest valid: 1000000");
    EXPECT_EQ(refused_integers("99999999999999999999"),
              "block-size = 99999999999999999999: is too large; nearest valid: 1000000000");
    EXPECT_EQ(refused_integers("9007199254740993000M"),
              "block-size = 9007199254740993000M: is too large; nearest valid: 1000000000");
    EXPECT_EQ(refused_integers("1e17"), "block-size = 1e17: is too large; nearest valid: 1000000000");
    EXPECT_EQ(refused_integers("64,32,64"), "block-size = 64,32,64: 64 appears twice; a list names each value once");
}

TEST(Values, BlanksDoNotCount) {
    using Integers = std::vector<std::int64_t>;
    EXPECT_EQ(parse_integers("n", "64, 128", sizes), (Integers{64, 128}));
    EXPECT_EQ(parse_integers("n", " 64 ,\t128 ", sizes), (Integers{64, 128}));
    EXPECT_EQ(parse_integers("n", "16 : 64 : x2, 100\r", sizes), (Integers{16, 32, 64, 100}));
    EXPECT_EQ(parse_integer("n", " 8K ", sizes), 8192);
    EXPECT_EQ(parse_reals("x", "0.5, 0.7:0.9:+0.1", {0, 1}), (std::vector<double>{0.5, 0.7, 0.8, 0.9}));
    EXPECT_EQ(parse_real("x", " 0.5", {0, 1}), 0.5);
    EXPECT_EQ(parse_words("model", "gaussian, sphere"), (std::vector<std::string>{"gaussian", "sphere"}));
    EXPECT_EQ(refused_integers("64 128"),
              "block-size = 64 128: a list has commas between its items; nearest valid: 64,128");
    EXPECT_EQ(refused_integers("  "), "block-size = (nothing): must be a whole number, like 64, 8K (8192) or 1e6");
}

TEST(Values, NumbersSpeltAsElsewhereAreRefusedWithTheSpellingHere) {
    const auto whole = [](const std::string& text) {
        return refusal([&] { parse_integer("trials", text, {1, INT64_MAX}); });
    };
    const std::string rule = ": must be a whole number, like 64, 8K (8192) or 1e6";
    const std::vector<std::pair<std::string, std::string>> spellings = {
        {"1_000", "1000"}, {"1,000,000", "1000000"}, {"1'000", "1000"}, {"10k", "10K"},        {"3m", "3M"},
        {"2G", "2048M"},   {"0x40", "64"},           {"\u22125", "1"},  {"1\u00a0000", "1000"}};
    for (const auto& [typed, valid] : spellings) {
        EXPECT_EQ(whole(typed), "trials = " + typed + rule + "; nearest valid: " + valid);
    }
    for (const char* typed : {"50%", "ten", "nan", "inf", "0x", "1e", "--5", "5.5.5", "\u0661\u0662"}) {
        EXPECT_EQ(whole(typed), "trials = " + std::string(typed) + rule);
    }
    const auto real = [](const std::string& text) {
        return refusal([&] { parse_real("confidence", text, {0.5, 1.0 - 1e-12}); });
    };
    EXPECT_EQ(real("95"), "confidence = 95: must be between 0.5 and 0.999999999999; nearest valid: 0.95 (95 %)");
    EXPECT_EQ(real("99.9"), "confidence = 99.9: must be between 0.5 and 0.999999999999; nearest valid: 0.999 (99.9 %)");
    EXPECT_EQ(real("100"), "confidence = 100: must be between 0.5 and 0.999999999999; nearest valid: 0.999999999999");
    EXPECT_EQ(real("95%"), "confidence = 95%: must be a number, like 0.8 or 1e-6; nearest valid: 0.95");
    EXPECT_EQ(real("95 %"), "confidence = 95 %: must be a number, like 0.8 or 1e-6; nearest valid: 0.95");
    EXPECT_EQ(real("0,95"), "confidence = 0,95: must be a number, like 0.8 or 1e-6; nearest valid: 0.95");
}

TEST(Values, NumbersBeyondTheDouble) {
    const auto real = [](const std::string& text, RealRange range) {
        return refusal([&] { parse_real("max-seconds", text, range); });
    };
    EXPECT_EQ(real("1e400", {0.0, 1e9}),
              "max-seconds = 1e400: must be between 0 and 1000000000; nearest valid: "
              "1000000000");
    EXPECT_EQ(real("-1e400", {0.0, 1e9}), "max-seconds = -1e400: must be between 0 and 1000000000; nearest valid: 0");
    EXPECT_EQ(real("1e400", {0.0, HUGE_VAL}), "max-seconds = 1e400: is too large for a double");
    EXPECT_EQ(real("1e-400", {0.0, 1e9}),
              "max-seconds = 1e-400: is nearer to 0 than a double can be; nearest valid: 0");
    EXPECT_EQ(real("0." + std::string(400, '0') + "1", {0.1, 1.0}).find("nearest valid: 0.1") != std::string::npos,
              true);
    EXPECT_EQ(refused_integers("1e400"), "block-size = 1e400: is too large; nearest valid: 1000000000");
    EXPECT_EQ(refused_integers("1e-400"), "block-size = 1e-400: must be a whole number; nearest valid: 1");
    EXPECT_EQ(refused_integers("1.0001K"), "block-size = 1.0001K: must be a whole number; nearest valid: 1024");
    EXPECT_EQ(refused_integers("-9223372036854775809"),
              "block-size = -9223372036854775809: is too large; nearest valid: 1");
    EXPECT_EQ(refusal([] {
                  parse_integer("seed", "18446744073709551616", {0, INT64_MAX});
              }),
              "seed = 18446744073709551616: is too large; nearest valid: 9223372036854775807");
    EXPECT_EQ(refused_reals("0.1:0.5:+inf"),
              "step of mu-signal = inf: must be between 0 and 1.7976931348623157e+308; nearest valid: "
              "1.7976931348623157e+308");
    EXPECT_EQ(refused_reals("0.1:0.5:xnan").find("step of mu-signal = nan: must be"), 0U);
    EXPECT_EQ(refused_reals("0.1:0.5:+1e-300"),
              "mu-signal = 0.1:0.5:+1e-300: a list holds at most 100000 values; use a larger step");
}

TEST(Values, AnUpperLimitThatIsOnlyTheIntegersSizeIsNotSpokenOf) {
    EXPECT_EQ(refusal([] {
                  parse_integer("head-dim", "1", {2, no_limit});
              }),
              "head-dim = 1: must be at least 2; nearest valid: 2");
    EXPECT_EQ(refusal([] {
                  parse_integer("head-dim", "3e9", {2, no_limit});
              }),
              "head-dim = 3e9: must be between 2 and 2147483647; nearest valid: 2147483647");
}

TEST(Values, RefusedRanges) {
    const std::string form = ": a range is FIRST:LAST:xFACTOR or FIRST:LAST:+STEP, like 16:512:x2 or 0.5:0.9:+0.1";
    for (const char* text : {"1:2", "1:2:", "1:2:3", "1:2:x", "1:2:x2:x2", "::", ":", "4-8", "4..8", "1e2-1e3"}) {
        EXPECT_EQ(refused_integers(text), "block-size = " + std::string(text) + form);
    }
    EXPECT_EQ(refused_integers("512:16:x2"), "block-size = 512:16:x2: a range goes upwards; nearest valid: 16:512:x2");
    EXPECT_EQ(refused_integers("16:512:x1"), "step of block-size = 1: must be at least 2; nearest valid: 2");
    EXPECT_EQ(refused_integers("16:512:+0"), "step of block-size = 0: must be at least 1; nearest valid: 1");
    EXPECT_EQ(refused_integers("1:1e9:+1"),
              "block-size = 1:1e9:+1: a list holds at most 100000 values; use a larger step");
    EXPECT_EQ(refusal([] {
                  parse_integers("seed", "0:8:x2", {0, 10});
              }),
              "seed = 0:8:x2: a range with a factor starts at 1 or more; use +STEP to start lower");
    EXPECT_EQ(refused_reals("0.9:0.5:+0.1"),
              "mu-signal = 0.9:0.5:+0.1: a range goes upwards; nearest valid: 0.5:0.9:+0.1");
    EXPECT_EQ(refused_reals("0.5:0.9:+0"), "mu-signal = 0.5:0.9:+0: the step must be above 0");
    EXPECT_EQ(refused_reals("0.5:0.9:x1"), "mu-signal = 0.5:0.9:x1: the factor must be above 1");
    EXPECT_EQ(refused_reals("0:0.9:x2"),
              "mu-signal = 0:0.9:x2: a range with a factor starts above 0; use +STEP to start lower");
}

TEST(Values, RefusedReals) {
    EXPECT_EQ(refused_reals("-0.1"), "mu-signal = -0.1: must be between 0 and 1; nearest valid: 0");
    EXPECT_EQ(refused_reals("1.5"), "mu-signal = 1.5: must be between 0 and 1; nearest valid: 1");
    EXPECT_EQ(refused_reals("nan"), "mu-signal = nan: must be between 0 and 1; nearest valid: 0");
    EXPECT_EQ(refused_reals("inf"), "mu-signal = inf: must be between 0 and 1; nearest valid: 1");
    EXPECT_EQ(refused_reals("a"), "mu-signal = a: must be a number, like 0.8 or 1e-6");
    EXPECT_EQ(refusal([] {
                  parse_real("max-seconds", "-1", {0.0, HUGE_VAL});
              }),
              "max-seconds = -1: must be at least 0; nearest valid: 0");
}

// What an open range names as nearest is in it.
TEST(Values, EndsOfAnOpenRangeAreNotInIt) {
    const OpenRange share{.least = 0.0, .most = 1.0, .lowest = 1e-6, .highest = 0.999999};
    const OpenRange positive{.least = 0.0, .most = HUGE_VAL, .lowest = 1.0, .highest = 1e9};
    EXPECT_EQ(parse_inside("x", " 0.5", share), 0.5);
    EXPECT_EQ(parse_inside("x", "1e-300", positive), 1e-300);
    const std::vector<std::pair<std::string, std::string>> nearest = {{"0", "1e-06"},      {"-3", "1e-06"},
                                                                      {"nan", "1e-06"},    {"1", "0.999999"},
                                                                      {"inf", "0.999999"}, {"1e999", "0.999999"}};
    for (const auto& [text, valid] : nearest) {
        EXPECT_EQ(refusal([&, value = text] { parse_inside("x", value, share); }),
                  "x = " + text + ": must be above 0 and below 1; nearest valid: " + valid);
        EXPECT_NO_THROW(parse_inside("x", valid, share));
    }
    for (const std::string text : {"0", "-1", "nan", "-inf", "-1e999"}) {
        EXPECT_EQ(refusal([&] { parse_inside("x", text, positive); }),
                  "x = " + text + ": must be a finite number above 0; nearest valid: 1");
    }
    EXPECT_EQ(refusal([&] { parse_inside("x", "inf", positive); }),
              "x = inf: must be a finite number above 0; nearest valid: 1000000000");
    EXPECT_NE(refusal([&] { parse_inside("x", "half", share); }), "");
    EXPECT_NE(refusal([&] { parse_inside("x", "", positive); }), "");
}

TEST(Values, HintsOnlyWhereSomethingNearWasMeant) {
    const std::vector<std::string> accepted = {"gaussian", "gaussian-fixed", "sphere", "vector"};
    EXPECT_EQ(nearest_word("guassian", accepted), "gaussian");
    EXPECT_EQ(nearest_hint("spere", accepted), "; nearest valid: sphere");
    EXPECT_EQ(nearest_hint("Gaussian", accepted), "; nearest valid: gaussian");
    EXPECT_EQ(nearest_hint("zzzzzz", accepted), "");
    EXPECT_EQ(nearest_hint("anything", {}), "");
}

TEST(Values, ShortestReadsBack) {
    for (const double value : {0.1, 1.0 / 3.0, 1e-300, 5e-324, -0.0, 1e22}) {
        EXPECT_EQ(std::strtod(shortest(value).c_str(), nullptr), value);
    }
    EXPECT_EQ(shortest(0.1), "0.1");
}

}  // namespace
}  // namespace mobalab::experiments
