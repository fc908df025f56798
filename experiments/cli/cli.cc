#include "experiments/cli/cli.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/locale/utf.hpp>
#include <boost/program_options.hpp>
#include <new>
#include <ostream>
#include <sstream>

#include "analysis/routing_point.h"
#include "experiments/base/build_info.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/regular_file.h"
#include "experiments/base/this_rank.h"
#include "experiments/base/values.h"

namespace mobalab::experiments {
namespace {

namespace po = boost::program_options;
using analysis::InputError;

std::vector<Flag> all_flags(const Subcommand& command) {
    return command.flags + std::vector<Flag>{{"config", "PATH", "",
                                              "read flags from a file of NAME = VALUE lines; "
                                              "the command line wins"},
                                             {"help", "", "", "show this help"}};
}

po::options_description describe(const std::vector<Flag>& flags) {
    po::options_description description;
    for (const Flag& flag : flags) {
        if (flag.value.empty()) {
            description.add_options()(flag.name.c_str(), po::bool_switch());
        } else {
            description.add_options()(flag.name.c_str(), po::value<std::string>());
        }
    }
    return description;
}

bool valid_utf8(const std::string& text) {
    namespace utf = boost::locale::utf;
    for (auto at = text.begin(); at != text.end();) {
        const utf::code_point point = utf::utf_traits<char>::decode(at, text.end());
        if (point == utf::illegal || point == utf::incomplete) {
            return false;
        }
    }
    return true;
}

/// Bytes that are no UTF-8, or unprintable, as $'\xff', which bash, zsh and ksh read back: a results file holds UTF-8.
std::string quoted_bytes(const std::string& word) {
    std::string quoted_word = "$'";
    for (const char letter : word) {
        const auto byte = static_cast<unsigned char>(letter);
        if (letter == '\'' || letter == '\\') {
            quoted_word += fmt::format("\\{}", letter);
        } else if (byte < 0x20 || byte > 0x7E) {
            quoted_word += fmt::format("\\x{:02x}", byte);
        } else {
            quoted_word += letter;
        }
    }
    return quoted_word + "'";
}

/// A word as a POSIX shell would need it.
std::string quoted(const std::string& word) {
    const bool control =
        std::any_of(word.begin(), word.end(), [](char letter) { return static_cast<unsigned char>(letter) < 0x20; });
    if (control || !valid_utf8(word)) {
        return quoted_bytes(word);
    }
    constexpr const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,.:/@%";
    if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) {
        return word;
    }
    std::string quoted_word = "'";
    for (const char letter : word) {
        quoted_word += letter == '\'' ? "'\\''" : std::string(1, letter);
    }
    return quoted_word + "'";
}

std::string command_line_text(const Subcommand& command, const std::vector<std::string>& args) {
    std::string line = "mobalab " + command.name;
    for (const std::string& arg : args) {
        if (arg != "--force" && arg != "--resume" && arg != "--json-progress") {
            line += " " + quoted(arg);
        }
    }
    return line;
}

[[noreturn]] void refuse_unknown(const std::string& where, const std::string& name, const std::vector<Flag>& flags) {
    std::vector<std::string> dashed;
    dashed.reserve(flags.size());
    for (const Flag& flag : flags) {
        dashed.push_back("--" + flag.name);
    }
    const std::string hint = nearest_hint(name.starts_with('-') ? name : "--" + name, dashed);
    throw InputError(
        fmt::format("{}{} is not a flag of this command{}", where, name, hint.empty() ? "; --help lists them" : hint));
}

/// Boost's complaints in this program's words.
template <typename Parse>
auto translated(const std::string& where, const std::vector<Flag>& flags, Parse parse) {
    try {
        return parse();
    } catch (const po::unknown_option& error) {
        refuse_unknown(where, error.get_option_name(), flags);
    } catch (const po::multiple_occurrences& error) {
        throw InputError(fmt::format("{}{} is given more than once; give it once, a list is written 64,128", where,
                                     error.get_option_name()));
    } catch (const po::invalid_command_line_syntax& error) {
        const std::string& name = error.get_option_name();
        if (error.kind() == po::invalid_syntax::extra_parameter) {
            throw InputError(fmt::format("{}{} is a switch and takes no value", where, name));
        }
        throw InputError(fmt::format("{}{} needs a value", where, name));
    } catch (const po::validation_error& error) {
        throw InputError(fmt::format("{}{} is a switch: its value is true or false", where, error.get_option_name()));
    } catch (const po::invalid_config_file_syntax& error) {
        throw InputError(fmt::format("{}the line '{}' must be NAME = VALUE", where, error.tokens()));
    } catch (const po::error& error) {
        throw InputError(where + error.what());
    }
}

/// `--model --json`: the value was forgotten. (--out=--x is how to name such a file.)
void refuse_flag_as_value(const po::option& option) {
    if (option.original_tokens.size() == 2 && option.original_tokens[1].starts_with("--")) {
        throw InputError(fmt::format("--{} needs a value", option.string_key));
    }
}

/// The command line as options; a bare argument becomes the command's positional flag.
po::parsed_options parse_command_line(const std::vector<Flag>& flags, const po::options_description& description,
                                      const Subcommand& command, const std::vector<std::string>& args) {
    namespace style = po::command_line_style;
    po::parsed_options parsed = translated("", flags, [&] {
        po::command_line_parser parser(args);
        parser.options(description);
        parser.style(style::allow_long | style::long_allow_next | style::long_allow_adjacent);
        return parser.run();
    });
    std::string before;          // the value of the flag before
    po::option* bare = nullptr;  // the first bare argument, which takes up the others
    for (po::option& option : parsed.options) {
        if (option.position_key < 0) {
            refuse_flag_as_value(option);
            before = option.value.empty() ? "" : option.value[0];
            continue;
        }
        const std::string& word = option.value.at(0);
        if (word.starts_with('-') && word != "-") {
            refuse_unknown("", word, flags);
        }
        if (!before.empty() && before.back() == ',') {
            throw InputError(
                fmt::format("{} {}: a list has no blanks on the command line; write {}{}", before, word, before, word));
        }
        if (command.positional.empty()) {
            throw InputError(fmt::format("{}: a value without a flag; write --{} {}", word, flags.front().name, word));
        }
        option.string_key = command.positional;
        option.position_key = -1;
        if (command.several) {
            if (word.find('\n') != std::string::npos) {
                throw InputError(word + ": a file name with a line break in it; rename the file");
            }
            if (bare != nullptr) {
                bare->value[0] += "\n" + word;
                option.string_key.clear();
            } else {
                bare = &option;
            }
        }
    }
    std::erase_if(parsed.options, [](const po::option& option) { return option.string_key.empty(); });
    return parsed;
}

/// The text of a config file, without the mark some editors begin it with.
std::string config_text(const std::string& path) {
    constexpr std::int64_t most_bytes = 1 << 20;
    constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
    std::vector<char> bytes;
    try {
        bytes = read_file(path, most_bytes);
    } catch (const FileError& error) {
        throw FileError(fmt::format("config = {}; give a text file of NAME = VALUE lines", error.what()));
    }
    std::string text(bytes.begin(), bytes.end());
    if (text.starts_with(byte_order_mark)) {
        text.erase(0, byte_order_mark.size());
    }
    if (text.find('\0') != std::string::npos) {
        throw FileError(
            fmt::format("config = {}: is no text file of NAME = VALUE lines (it holds zero bytes); save it "
                        "as UTF-8 text",
                        path));
    }
    return text;
}

po::parsed_options parse_config(const std::vector<Flag>& flags, const po::options_description& description,
                                const std::string& path) {
    std::istringstream text(config_text(path));
    const std::string where = fmt::format("config {}: ", path);
    return translated(where, flags, [&] {
        po::parsed_options parsed = po::parse_config_file(text, description, true);
        for (const po::option& option : parsed.options) {
            if (option.string_key == "config" || option.string_key == "help") {
                throw InputError(fmt::format("{}{} belongs on the command line, not in a config file; remove the line",
                                             where, option.string_key));
            }
            if (option.unregistered) {
                refuse_unknown(where, option.string_key, flags);
            }
        }
        return parsed;
    });
}

std::string value_text(const Flag& flag, const po::variables_map& values) {
    if (flag.value.empty()) {
        return values[flag.name].as<bool>() ? "true" : "";
    }
    return values.count(flag.name) != 0 ? values[flag.name].as<std::string>() : flag.default_value;
}

/// Text broken into lines of at most `width` characters at spaces.
std::vector<std::string> wrapped(const std::string& text, std::size_t width) {
    std::vector<std::string> lines;
    std::istringstream words(text);
    std::string line;
    for (std::string word; words >> word;) {
        if (!line.empty() && line.size() + 1 + word.size() > width) {
            lines.push_back(std::exchange(line, ""));
        }
        line += (line.empty() ? "" : " ") + word;
    }
    lines.push_back(line);
    return lines;
}

std::string flag_help(const Flag& flag) {
    constexpr std::size_t indent = 28;
    std::string head = "  --" + flag.name + (flag.value.empty() ? "" : " " + flag.value);
    std::string help = flag.help;
    if (!flag.default_value.empty()) {
        help += fmt::format(" [{}]", flag.default_value);
    }
    std::string text = head;
    if (head.size() + 2 > indent) {
        text += "\n" + std::string(indent, ' ');
    } else {
        text.append(indent - head.size(), ' ');
    }
    return text + fmt::format("{}\n", fmt::join(wrapped(help, 100 - indent), "\n" + std::string(indent, ' ')));
}

const Subcommand& find_command(const Commands& commands, const std::string& name) {
    std::vector<std::string> names;
    for (const Subcommand& command : commands) {
        if (command.name == name) {
            return command;
        }
        names.push_back(command.name);
    }
    throw InputError(fmt::format("{} is not a command: must be one of {}{}", name, fmt::join(names, ", "),
                                 nearest_hint(name, names)));
}

bool asks_for_help(const std::string& arg) {
    return arg == "--help" || arg == "-h";
}

int run_command(const Subcommand& command, const std::vector<std::string>& args, Terminal& terminal) {
    if (std::any_of(args.begin(), args.end(), asks_for_help)) {
        terminal.out << help_of(command);
        return exit_ok;
    }
    set_speaker("mobalab " + command.name);
    const Arguments arguments = parse_arguments(command, args);
    terminal.json_progress = arguments.has("json-progress") && arguments.on("json-progress");
    const StopAdvice advice(arguments.has("resume") ? "with --out a run can be resumed" : "nothing was written");
    this_rank().task = command.name + " " + arguments.settings();
    if (!this_rank().helps) {
        return command.run(arguments, terminal);
    }
    return command.dealt ? command.run(arguments.without_output(), terminal) : exit_ok;
}

int dispatch(const Commands& commands, const std::vector<std::string>& args, Terminal& terminal) {
    if (args.empty() || asks_for_help(args[0]) || (args[0] == "help" && args.size() == 1)) {
        terminal.out << help_of_program(commands);
        return exit_ok;
    }
    if (args[0] == "--version") {
        terminal.out << version_text();
        return exit_ok;
    }
    if (args[0] == "help") {
        terminal.out << help_of(find_command(commands, args[1]));
        return exit_ok;
    }
    return run_command(find_command(commands, args[0]), {args.begin() + 1, args.end()}, terminal);
}

/// "mobalab simulate: error: <each line of the message>".
void print_error(const Commands& commands, const std::vector<std::string>& args, const std::string& message,
                 Terminal& terminal) {
    const bool named = !args.empty() && std::any_of(commands.begin(), commands.end(),
                                                    [&](const auto& command) { return command.name == args[0]; });
    std::istringstream lines(message);
    for (std::string line; std::getline(lines, line);) {
        terminal.err << "mobalab" << (named ? " " + args[0] : "") << ": error: " << line << "\n";
    }
}

}  // namespace

Arguments parse_arguments(const Subcommand& command, const std::vector<std::string>& args) {
    const std::vector<Flag> flags = all_flags(command);
    const po::options_description description = describe(flags);
    po::variables_map typed;
    po::variables_map all;
    const po::parsed_options line = parse_command_line(flags, description, command, args);
    translated("", flags, [&] { po::store(line, typed); });
    translated("", flags, [&] { po::store(line, all); });
    std::string config_path;
    if (typed.count("config") != 0) {
        config_path = typed["config"].as<std::string>();
        const po::parsed_options config = parse_config(flags, description, config_path);
        translated(fmt::format("config {}: ", config_path), flags, [&] { po::store(config, all); });
    }
    std::map<std::string, Arguments::Value> values;
    for (const Flag& flag : flags) {
        const bool given = all.count(flag.name) != 0 && !all[flag.name].defaulted();
        values[flag.name] = {value_text(flag, all), given};
    }
    return {std::move(values), command_line_text(command, args)};
}

std::string help_of(const Subcommand& command) {
    std::string text = fmt::format("mobalab {}: {}\n\n", command.name, command.summary);
    std::istringstream paragraphs(command.description);
    for (std::string paragraph; std::getline(paragraphs, paragraph);) {
        text += fmt::format("{}\n", fmt::join(wrapped(paragraph, 100), "\n"));
    }
    text += fmt::format("\nUsage: mobalab {} [flags]{}\n\nFlags:\n", command.name,
                        command.positional.empty() ? ""
                        : command.several          ? " " + command.positional + "..."
                                                   : " [" + command.positional + "]");
    for (const Flag& flag : all_flags(command)) {
        text += flag_help(flag);
    }
    text += "\nExamples:\n";
    for (const Example& example : command.examples) {
        text +=
            fmt::format("  mobalab {}\n      {}\n", example.command, fmt::join(wrapped(example.shows, 94), "\n      "));
    }
    return text;
}

std::string help_of_program(const Commands& commands) {
    std::string text =
        "mobalab: will a MoBA router find the right block?\n\n"
        "The same routing point, evaluated by theory, by Monte Carlo and by the real kernel, into one table.\n\n"
        "Usage: mobalab COMMAND [flags]\n\nCommands:\n";
    for (const Subcommand& command : commands) {
        text += fmt::format("  {:<10} {}\n", command.name, command.summary);
    }
    return text +
           "\nmobalab COMMAND --help shows the flags of a command with worked examples; mobalab --version the "
           "version.\n"
           "Results go to stdout, progress to stderr. Exit codes: 0 done (validate: agree), 1 the answer is no\n"
           "(validate: disagree), 2 bad input or a file or device that cannot be used, 130 stopped by Ctrl-C\n"
           "(143 by SIGTERM: 128 + the signal).\n";
}

std::string version_text() {
    return fmt::format("mobalab {} (commit {})\n", build_info().version, build_info().git_commit);
}

int run_program(const Commands& commands, const std::vector<std::string>& args, Terminal& terminal) {
    try {
        const int code = dispatch(commands, args, terminal);
        terminal.out.flush();
        if (!terminal.out) {  // a full disk behind `mobalab ... > file`
            throw FileError("stdout: cannot be written; is the disk full?");
        }
        return code;
    } catch (const Interrupted& interruption) {
        if (take_last_word()) {
            print_error(commands, args, interruption.what(), terminal);
        }
        return interrupted_code();
    } catch (const std::bad_alloc&) {
        print_error(commands, args, "out of memory; ask for fewer points or a smaller problem", terminal);
    } catch (const std::exception& error) {
        print_error(commands, args, error.what(), terminal);
    }
    return exit_error;
}

}  // namespace mobalab::experiments
