#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/base/terminal.h"
#include "experiments/base/values.h"

namespace mobalab::experiments {

/// One flag; the same table parses, validates the names and writes the help.
struct Flag {
    std::string name;           ///< without the dashes
    std::string value;          ///< placeholder in the help ("N", "LIST", "PATH"); empty: a switch
    std::string default_value;  ///< as a user would type it; empty: none
    std::string help;
};

/// What the user asked for: the command line over the config file over the defaults. Readers throw
/// analysis::InputError naming flag, value, rule and nearest valid choice. Asking for a flag that the subcommand does
/// not have is a std::logic_error.
class Arguments {
public:
    struct Value {
        std::string text;
        bool given = false;  ///< by the user, on the command line or in the config file
    };

    Arguments(std::map<std::string, Value> values, std::string command_line);

    /// The same, as if the subcommand did not have this flag.
    Arguments without(const std::string& name) const;

    /// The same with another value of this flag; it counts as given where it did before.
    Arguments with(const std::string& name, const std::string& text) const;

    bool has(const std::string& name) const;  ///< the subcommand has this flag
    bool given(const std::string& name) const;
    bool on(const std::string& name) const;                  ///< a switch
    const std::string& text(const std::string& name) const;  ///< empty when not given and without default
    std::int64_t integer(const std::string& name, std::int64_t least,
                         std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;
    double real(const std::string& name, double least, double most) const;
    double inside(const std::string& name, const OpenRange& range) const;
    std::vector<std::int64_t> integers(const std::string& name, std::int64_t least,
                                       std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;
    std::vector<double> reals(const std::string& name, double least, double most) const;
    std::vector<std::string> texts(const std::string& name) const;  ///< comma-separated
    std::vector<std::string> lines(const std::string& name) const;  ///< bare arguments (Subcommand::several)
    std::string choice(const std::string& name, const std::vector<std::string>& accepted) const;
    std::vector<std::string> choices(const std::string& name, const std::vector<std::string>& accepted) const;

    /// The full command as typed, quoted for a shell, without --force, --resume and --json-progress (they do not change
    /// a result).
    const std::string& command_line() const { return command_line_; }

    /// The same, as if no output file was asked for.
    Arguments without_output() const;

    /// Every flag with a value, config file and defaults included, except --config and those about output and progress;
    /// what a reader needs when the config file is gone.
    std::string settings() const;

private:
    const Value& at(const std::string& name) const;

    std::map<std::string, Value> values_;
    std::string command_line_;
};

struct Example {
    std::string command;  ///< without the leading "mobalab "
    std::string shows;
};

/// One `mobalab <name>`. To add one: experiments/commands/subcommands.h.
struct Subcommand {
    std::string name;
    std::string summary;      ///< one line, for `mobalab --help`
    std::string description;  ///< paragraphs of the command's own help
    std::vector<Flag> flags;  ///< --help and --config are added to every command
    std::vector<Example> examples;
    std::string positional;  ///< flag that takes a bare argument (`mobalab export results.h5`); empty: none
    std::function<int(const Arguments&, Terminal&)> run;
    bool dealt = false;    ///< the ranks of an mpirun share its work (work_dealer.h)
    bool several = false;  ///< bare arguments may be several: Arguments::lines() of the flag
};

/// first followed by second; for flag tables put together from shared groups.
std::vector<Flag> operator+(std::vector<Flag> first, const std::vector<Flag>& second);

/// Flags several commands share, so that they read the same everywhere.
std::vector<Flag> json_flag();
std::vector<Flag> table_flags();                          ///< --json, --csv: of commands that print a table
std::vector<Flag> output_flags();                         ///< --out, --force
std::vector<Flag> progress_flag();                        ///< --json-progress
std::vector<Flag> engine_flags(const std::string& seed);  ///< --seed, --threads

/// --threads; by default this rank's share of its host's cores, 0 (all) when alone.
int worker_threads(const Arguments& arguments);

}  // namespace mobalab::experiments
