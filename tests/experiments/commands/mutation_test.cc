// Damaged results files, config files and command lines, ten thousand of each: an error or the right values, never a
// crash, a hang or a wrong number. The seed is fixed; MOBALAB_TEST_SEED gives another.

#include <gtest/gtest.h>

#include <boost/algorithm/string/classification.hpp>
#include <boost/algorithm/string/trim.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>

#include "analysis/routing_point.h"
#include "experiments/base/values.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/point_grid.h"
#include "experiments/results/results_file.h"
#include "experiments/results/seal.h"
#include "tests/experiments/captured.h"
#include "tests/experiments/commands/mutations.h"

namespace mobalab::experiments {
namespace {

constexpr int cases = 10'000;

std::uint64_t test_seed() {
    const char* given = std::getenv("MOBALAB_TEST_SEED");
    const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : 20251125;
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    return seed;
}

/// Processor time of this process: a hang shows, a busy machine does not.
double processor_seconds() {
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

std::string text_of(const std::vector<char>& bytes) {
    return {bytes.begin(), bytes.end()};
}

std::vector<char> bytes_of(const std::string& text) {
    return {text.begin(), text.end()};
}

Results sample(std::size_t rows) {
    Results results = new_results("simulate");
    results.utc_time = "2026-01-02T03:04:05Z";
    results.task = task_id("a task");
    results.command = "mobalab simulate --out a.h5";
    results.settings = "trials=1000";
    results.seed = 7;
    results.device = "a device";
    std::vector<std::int64_t> trials;
    std::vector<double> miss;
    std::vector<std::string> reasons;
    for (std::size_t i = 0; i < rows; ++i) {
        trials.push_back(static_cast<std::int64_t>(i * i));
        miss.push_back(1.0 / static_cast<double>(i + 1));
        reasons.push_back(std::string(i % 7, 'x'));
    }
    results.tables = {{.name = "simulate",
                       .columns = {{"sim_trials", "trials", "1", trials},
                                   {"sim_miss", "miss", "1", miss, "misses / trials"},
                                   {"sim_stop_reason", "reason", "", reasons}},
                       .attributes = {{"confidence", 0.95}, {"interval", std::string("Clopper-Pearson")}}}};
    return results;
}

TEST(Mutation, DamagedResultsFilesAreRefused) {
    Mutator mutator(test_seed());
    int refused = 0;
    for (const std::size_t rows : {std::size_t{0}, std::size_t{3}, std::size_t{300}}) {
        const Results results = sample(rows);
        const std::string whole = text_of(encode_results(results));
        for (int i = 0; i < cases / 3 + 1; ++i) {
            const std::string damaged = mutator.damaged(whole);
            try {
                ASSERT_EQ(decode_results(bytes_of(damaged), "x.h5"), results) << "case " << i;
                ASSERT_EQ(damaged, whole) << "case " << i << ": damage that is not seen";
            } catch (const FileError& error) {
                ++refused;
                ASSERT_EQ(std::string(error.what()).find("x.h5: "), 0U);
            }
        }
    }
    EXPECT_GT(refused, cases * 9 / 10) << "the mutator hardly damages anything";
}

// What the test above is worth: without the seal the same damage gives wrong numbers.
TEST(Mutation, WithoutTheSealAWrongNumberWouldBeRead) {
    const Results results = sample(3);
    std::string bare = text_of(unsealed(encode_results(results)));
    const double third = 1.0 / 3.0;
    const std::size_t at = bare.find(std::string(reinterpret_cast<const char*>(&third), sizeof third));
    ASSERT_NE(at, std::string::npos);
    bare[at] = static_cast<char>(bare[at] ^ 1);
    const Results read = decode_results(sealed(bytes_of(bare)), "x.h5");
    EXPECT_EQ(read.table("simulate").reals("sim_miss")[2], std::nextafter(third, 0.0));
    std::string whole = text_of(encode_results(results));
    whole[at] = bare[at];
    EXPECT_THROW(decode_results(bytes_of(whole), "x.h5"), FileError);
}

TEST(Mutation, AFileWithoutItsSealIsRefused) {
    const std::vector<char> bare = unsealed(encode_results(sample(3)));
    try {
        decode_results(bare, "x.h5");
        FAIL() << "accepted";
    } catch (const FileError& error) {
        EXPECT_STREQ(error.what(),
                     "x.h5: is not a readable mobalab results file (foreign, truncated or damaged): the seal at its "
                     "end is missing; another program may have changed it");
    }
}

const std::vector<std::string>& telling_pieces() {
    static const std::vector<std::string> pieces = [] {
        std::vector<std::string> all = {"=",
                                        "\n",
                                        "64,128",
                                        "16:512:x2",
                                        "0.5:0.9:+0.1",
                                        "1e6",
                                        "8K",
                                        "1e308",
                                        "-1",
                                        "nan",
                                        "inf",
                                        "0x10",
                                        "1e-320",
                                        "true",
                                        "[a]",
                                        "#",
                                        "--",
                                        "1:9:+0",
                                        "1:9:x1",
                                        "9:1:+1",
                                        "2:1e9:+1",
                                        ",,",
                                        "'",
                                        "\"",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "18446744073709551616",
                                        "\xff"};
        for (const Subcommand& command : subcommands()) {
            for (const Flag& flag : command.flags) {
                all.push_back(flag.name);
                all.push_back("--" + flag.name);
                all.push_back(flag.name + " = " + flag.default_value + "\n");
            }
        }
        return all;
    }();
    return pieces;
}

/// Everything the program would read of the arguments before it begins to work.
void read_everything(const Arguments& arguments) {
    if (arguments.has("head-dim") && arguments.has("block-size")) {
        point_grid(arguments);
    }
    for (const char* name : {"trials", "seed", "probes", "threads"}) {
        if (arguments.has(name)) {
            arguments.integer(name, 0);
        }
    }
    if (arguments.has("confidence")) {
        arguments.real("confidence", 0.5, 1.0);
    }
}

/// What was accepted, written as a command line, is accepted as the same settings.
void check_round_trip(const Subcommand& command, const Arguments& arguments) {
    std::vector<std::string> args;
    for (const Flag& flag : command.flags) {
        if (arguments.given(flag.name) && !flag.value.empty()) {
            args.push_back("--" + flag.name + "=" + arguments.text(flag.name));
        } else if (!flag.value.empty()) {
            continue;
        } else if (arguments.on(flag.name)) {
            args.push_back("--" + flag.name);
        }
    }
    ASSERT_EQ(parse_arguments(command, args).settings(), arguments.settings());
}

enum class Outcome { accepted, refused, empty_value };

Outcome outcome_of(const Subcommand& command, const std::vector<std::string>& args) {
    try {
        const Arguments arguments = parse_arguments(command, args);
        for (const Flag& flag : command.flags) {
            if (arguments.given(flag.name) && !flag.value.empty() && arguments.text(flag.name).empty()) {
                return Outcome::empty_value;  // `--name=` is not a way to write it on the command line
            }
        }
        check_round_trip(command, arguments);
        read_everything(arguments);
        return Outcome::accepted;
    } catch (const analysis::InputError&) {
        return Outcome::refused;
    } catch (const FileError&) {
        return Outcome::refused;
    }  // anything else ends the test
}

/// A valid config file of the command: every flag that takes a value, with its default.
std::string config_of(const Subcommand& command) {
    std::string text = "# " + command.name + "\n";
    for (const Flag& flag : command.flags) {
        if (!flag.default_value.empty()) {
            text += flag.name + " = " + flag.default_value + "\n";
        }
    }
    return text;
}

TEST(Mutation, DamagedConfigFilesAreReadOrRefused) {
    const TemporaryFolder folder;
    const std::string path = folder / "a.cfg";
    Mutator mutator(test_seed(), telling_pieces());
    int outcomes[3] = {};
    double longest = 0.0;
    for (int i = 0; i < cases; ++i) {
        const Subcommand& command = subcommands()[mutator.below(subcommands().size())];
        const std::string text = mutator.damaged(config_of(command));
        spill(path, text);
        const double before = processor_seconds();
        SCOPED_TRACE(testing::Message() << "case " << i << ", " << command.name << ":\n" << text);
        ASSERT_NO_THROW(++outcomes[static_cast<int>(outcome_of(command, {"--config", path}))]);
        longest = std::max(longest, processor_seconds() - before);
    }
    EXPECT_GT(outcomes[static_cast<int>(Outcome::accepted)], cases / 100);
    EXPECT_GT(outcomes[static_cast<int>(Outcome::refused)], cases / 10);
    std::printf("accepted %d, refused %d, with an empty value %d, longest %.3f s\n", outcomes[0], outcomes[1],
                outcomes[2], longest);
    EXPECT_LT(longest, 20.0);
}

TEST(Mutation, DamagedCommandLinesAreReadOrRefused) {
    Mutator mutator(test_seed(), telling_pieces());
    std::vector<std::pair<const Subcommand*, std::string>> lines;
    for (const Subcommand& command : subcommands()) {
        for (const Example& example : command.examples) {
            lines.emplace_back(&command, example.command.substr(command.name.size()));
        }
    }
    int outcomes[3] = {};
    for (int i = 0; i < cases; ++i) {
        const auto& [command, line] = lines[mutator.below(lines.size())];
        const std::string text = mutator.damaged(line);
        SCOPED_TRACE(testing::Message() << "case " << i << ", " << command->name << ": " << text);
        ASSERT_NO_THROW(++outcomes[static_cast<int>(outcome_of(*command, words(text)))]);
    }
    std::printf("accepted %d, refused %d, with an empty value %d\n", outcomes[0], outcomes[1], outcomes[2]);
    EXPECT_GT(outcomes[static_cast<int>(Outcome::accepted)], cases / 100);
    EXPECT_GT(outcomes[static_cast<int>(Outcome::refused)], cases / 10);
}

/// The C library's reading of the same text; not a number unless it reads all of it but the blanks around it.
long double oracle(std::string text) {
    boost::trim_if(text, boost::is_any_of(" \t\r\n"));
    long double factor = 1.0L;
    if (!text.empty() && (text.back() == 'K' || text.back() == 'M')) {
        factor = text.back() == 'K' ? 1024.0L : 1024.0L * 1024.0L;
        text.pop_back();
    }
    char* end = nullptr;
    const long double value = std::strtold(text.c_str(), &end);
    const bool all = !text.empty() && end == text.c_str() + text.size() && !std::isspace(text.front());
    return all ? value * factor : NAN;
}

TEST(Mutation, DamagedNumbersAreReadRightOrRefused) {
    Mutator mutator(test_seed(), {"e", ".", "K", "M", "-", "+", "1e19", "0x", "9007199254740993"});
    const std::vector<std::string> seeds = {
        "64", "8K", "2M", "1e6", "12.5", "0.001", "-3", "+7.25e-3", "900719925474099"};
    int integers = 0;
    int reals = 0;
    for (int i = 0; i < cases; ++i) {
        const std::string text = mutator.damaged(seeds[mutator.below(seeds.size())]);
        SCOPED_TRACE(testing::Message() << "case " << i << ": '" << text << "'");
        try {
            const std::int64_t value = parse_integer("n", text, {INT64_MIN, INT64_MAX});
            ASSERT_EQ(static_cast<long double>(value), oracle(text));
            ++integers;
        } catch (const analysis::InputError&) {
        }
        try {
            const double value = parse_real("x", text, {-HUGE_VAL, HUGE_VAL});
            ASSERT_EQ(value, std::strtod(text.c_str(), nullptr));
            ASSERT_FALSE(std::isnan(oracle(text)));
            ++reals;
        } catch (const analysis::InputError&) {
        }
    }
    EXPECT_GT(integers, cases / 20);
    EXPECT_GT(reals, cases / 20);
}

TEST(Mutation, DamagedListsStayInsideTheirRange) {
    Mutator mutator(test_seed(), {",", ":", ":x2", ":+1", "16:512:x2", "1e5", "0.1", "1e-300"});
    int accepted = 0;
    for (int i = 0; i < cases; ++i) {
        const std::string text = mutator.damaged("64,128,16:512:x2,7:9:+1");
        SCOPED_TRACE(testing::Message() << "case " << i << ": '" << text << "'");
        try {
            for (const std::int64_t value : parse_integers("n", text, {1, 1'000'000})) {
                ASSERT_TRUE(value >= 1 && value <= 1'000'000);
            }
            ++accepted;
        } catch (const analysis::InputError&) {
        }
        try {
            for (const double value : parse_reals("x", text, {0.0, 1e6})) {
                ASSERT_TRUE(value >= 0.0 && value <= 1e6);
            }
        } catch (const analysis::InputError&) {
        }
    }
    EXPECT_GT(accepted, cases / 100);
}

TEST(Mutation, ALongListIsReadInNoTime) {
    const double before = processor_seconds();
    EXPECT_EQ(parse_integers("n", "1:100000:+1", {1, 1'000'000}).size(), 100'000U);
    EXPECT_EQ(parse_reals("x", "0.00001:1:+0.00001", {0.0, 1.0}).size(), 100'000U);
    EXPECT_LT(processor_seconds() - before, 2.0);
}

}  // namespace
}  // namespace mobalab::experiments
