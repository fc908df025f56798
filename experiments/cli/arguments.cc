#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "analysis/routing_point.h"
#include "experiments/base/this_rank.h"
#include "experiments/base/values.h"
#include "experiments/cli/subcommand.h"

namespace mobalab::experiments {
namespace {

void check_accepted(const std::string& name, const std::string& word, const std::vector<std::string>& accepted) {
    if (std::find(accepted.begin(), accepted.end(), word) == accepted.end()) {
        throw analysis::InputError(fmt::format("{} = {}: must be {}{}{}", name, word.empty() ? "(nothing)" : word,
                                               accepted.size() > 1 ? "one of " : "", fmt::join(accepted, ", "),
                                               nearest_hint(word, accepted)));
    }
}

}  // namespace

Arguments::Arguments(std::map<std::string, Value> values, std::string command_line)
    : values_(std::move(values)), command_line_(std::move(command_line)) {}

const Arguments::Value& Arguments::at(const std::string& name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) {
        throw std::logic_error("the subcommand has no flag --" + name);
    }
    return found->second;
}

Arguments Arguments::without(const std::string& name) const {
    Arguments rest = *this;
    rest.values_.erase(name);
    return rest;
}

Arguments Arguments::without_output() const {
    Arguments rest = *this;
    for (const char* name : {"out", "force", "resume"}) {
        if (has(name)) {
            rest.values_[name] = {};
        }
    }
    return rest;
}

Arguments Arguments::with(const std::string& name, const std::string& text) const {
    Arguments changed = *this;
    changed.values_[name] = {text, given(name)};
    return changed;
}

bool Arguments::has(const std::string& name) const {
    return values_.contains(name);
}

bool Arguments::given(const std::string& name) const {
    return at(name).given;
}

bool Arguments::on(const std::string& name) const {
    return at(name).text == "true";
}

const std::string& Arguments::text(const std::string& name) const {
    return at(name).text;
}

std::int64_t Arguments::integer(const std::string& name, std::int64_t least, std::int64_t most) const {
    return parse_integer(name, text(name), {least, most});
}

double Arguments::real(const std::string& name, double least, double most) const {
    return parse_real(name, text(name), {least, most});
}

double Arguments::inside(const std::string& name, const OpenRange& range) const {
    return parse_inside(name, text(name), range);
}

std::vector<std::int64_t> Arguments::integers(const std::string& name, std::int64_t least, std::int64_t most) const {
    return parse_integers(name, text(name), {least, most});
}

std::vector<double> Arguments::reals(const std::string& name, double least, double most) const {
    return parse_reals(name, text(name), {least, most});
}

std::vector<std::string> Arguments::texts(const std::string& name) const {
    return parse_words(name, text(name));
}

std::vector<std::string> Arguments::lines(const std::string& name) const {
    std::istringstream text(this->text(name));
    std::vector<std::string> all;
    for (std::string line; std::getline(text, line);) {
        all.push_back(line);
    }
    return all;
}

std::string Arguments::choice(const std::string& name, const std::vector<std::string>& accepted) const {
    check_accepted(name, text(name), accepted);
    return text(name);
}

std::vector<std::string> Arguments::choices(const std::string& name, const std::vector<std::string>& accepted) const {
    std::vector<std::string> words = texts(name);
    for (auto word = words.begin(); word != words.end(); ++word) {
        check_accepted(name, *word, accepted);
        if (std::find(words.begin(), word, *word) != word) {
            throw analysis::InputError(
                fmt::format("{} = {}: {} appears twice; a list names each value once", name, text(name), *word));
        }
    }
    return words;
}

std::string Arguments::settings() const {
    std::string line;
    for (const auto& [name, value] : values_) {
        const bool about_run =
            name == "config" || name == "out" || name == "force" || name == "resume" || name == "json-progress";
        if (!about_run && !value.text.empty()) {
            line += fmt::format("{}{}={}", line.empty() ? "" : " ", name, value.text);
        }
    }
    return line;
}

std::vector<Flag> operator+(std::vector<Flag> first, const std::vector<Flag>& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

std::vector<Flag> json_flag() {
    return {{"json", "", "", "print a JSON array, one object a row, instead of the table"}};
}

std::vector<Flag> table_flags() {
    return json_flag() + std::vector<Flag>{{"csv", "", "", "print the table as CSV (RFC 4180), with every digit"}};
}

std::vector<Flag> output_flags() {
    return {{"out", "PATH", "", "also write a results file (HDF5); an existing file is refused"},
            {"force", "", "", "replace what is at --out"}};
}

std::vector<Flag> progress_flag() {
    return {{"json-progress", "", "", "progress for a program: on stderr, a JSON object a line"}};
}

std::vector<Flag> engine_flags(const std::string& seed) {
    return {{"seed", "N", seed, "seed of the random streams; the same seed gives the same counts"},
            {"threads", "N", "0", "worker threads, 0 for all; results do not depend on it"}};
}

int worker_threads(const Arguments& arguments) {
    const auto threads = static_cast<int>(arguments.integer("threads", 0, 4096));
    return threads > 0 ? threads : this_rank().own_cores;
}

}  // namespace mobalab::experiments
