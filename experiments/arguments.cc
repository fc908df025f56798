#include <fmt/format.h>

#include <algorithm>

#include "analysis/routing_point.h"
#include "experiments/subcommand.h"
#include "experiments/values.h"

namespace mobalab::experiments {

Arguments::Arguments(std::map<std::string, Value> values, std::string command_line)
    : values_(std::move(values)), command_line_(std::move(command_line)) {}

const Arguments::Value& Arguments::at(const std::string& name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) {
        throw std::logic_error("the subcommand has no flag --" + name);
    }
    return found->second;
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

std::vector<std::int64_t> Arguments::integers(const std::string& name, std::int64_t least, std::int64_t most) const {
    return parse_integers(name, text(name), {least, most});
}

std::vector<double> Arguments::reals(const std::string& name, double least, double most) const {
    return parse_reals(name, text(name), {least, most});
}

std::vector<std::string> Arguments::texts(const std::string& name) const {
    return parse_words(name, text(name));
}

std::string Arguments::choice(const std::string& name, const std::vector<std::string>& accepted) const {
    const std::string& value = text(name);
    if (std::find(accepted.begin(), accepted.end(), value) == accepted.end()) {
        throw analysis::InputError(fmt::format("{} = {}: must be one of {}; nearest valid: {}", name,
                                               value.empty() ? "(nothing)" : value, fmt::join(accepted, ", "),
                                               nearest_word(value, accepted)));
    }
    return value;
}

std::string Arguments::settings() const {
    std::string line;
    for (const auto& [name, value] : values_) {
        const bool about_files = name == "config" || name == "out" || name == "force" || name == "resume";
        if (!about_files && !value.text.empty()) {
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

std::vector<Flag> output_flags() {
    return {{"out", "PATH", "", "also write a results file (HDF5); an existing file is refused"},
            {"force", "", "", "replace what is at --out"}};
}

std::vector<Flag> engine_flags(const std::string& seed) {
    return {{"seed", "N", seed, "seed of the random streams; the same seed gives the same counts"},
            {"threads", "N", "0", "worker threads, 0 for all; results do not depend on it"}};
}

}  // namespace mobalab::experiments
