#include "experiments/commands/stop_flags.h"

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>

namespace mobalab::experiments {

std::vector<Flag> stop_flags() {
    return {{"trials", "N", "1e5", "stop a point after N trials"},
            {"max-misses", "N", "0", "or after N misses (0: not a rule)"},
            {"target-relative-error", "X", "0",
             "or when the standard error of the miss estimate falls to X of it (0: not a "
             "rule)"},
            {"max-seconds", "S", "0", "or after S seconds (0: not a rule); counts then depend on the clock"}};
}

sim::StopRule stop_rule(const Arguments& arguments) {
    sim::StopRule stop;
    stop.max_trials = static_cast<std::uint64_t>(arguments.integer("trials", 1, std::int64_t{1} << 53));
    stop.max_misses = static_cast<std::uint64_t>(arguments.integer("max-misses", 0));
    stop.target_relative_error = arguments.real("target-relative-error", 0.0, 1.0);
    stop.max_seconds = arguments.real("max-seconds", 0.0, 1e9);
    return stop;
}

std::optional<Arguments> with_stop_rules_of(const Results& found, const Arguments& arguments) {
    const std::vector<Flag> rules = stop_flags();
    Arguments asked = arguments;
    std::size_t told = 0;
    std::istringstream settings(found.settings);
    for (std::string word; settings >> word;) {
        const std::size_t equals = word.find('=');
        const std::string name = word.substr(0, equals);
        if (std::any_of(rules.begin(), rules.end(), [&](const Flag& rule) { return rule.name == name; })) {
            asked = asked.with(name, word.substr(equals + 1));
            ++told;
        }
    }
    return told == rules.size() ? std::optional(asked) : std::nullopt;
}

}  // namespace mobalab::experiments
