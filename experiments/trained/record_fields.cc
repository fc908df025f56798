#include "experiments/trained/record_fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "experiments/base/regular_file.h"
#include "experiments/base/values.h"
#include "experiments/trace/checked_json.h"

namespace mobalab::experiments {
namespace {

using nlohmann::json;

std::string range_text(double least, double most) {
    const bool bounded = most < static_cast<double>(std::numeric_limits<std::int64_t>::max());
    return bounded ? fmt::format("from {} to {}", shortest(least), shortest(most))
                   : fmt::format("at least {}", shortest(least));
}

std::string out_of(double value, double least, double most) {
    return fmt::format("must be {}; nearest valid: {}", range_text(least, most),
                       shortest(value < least ? least : most));
}

}  // namespace

RecordFields::RecordFields(json object, std::string place) : object_(std::move(object)), place_(std::move(place)) {
    if (!object_.is_object()) {
        throw FileError(fmt::format("{}: {} is no record; a record is a JSON object, like {{\"kind\": \"run\", ...}}",
                                    place_, shown(object_.dump())));
    }
}

void RecordFields::fail(const std::string& name, const std::string& rule) const {
    throw FileError(fmt::format("{}: {} = {}: {}", place_, name, shown(object_.at(name).dump()), rule));
}

bool RecordFields::has(const std::string& name) {
    known_.insert(name);
    return object_.contains(name);
}

const json& RecordFields::at(const std::string& name) {
    if (!has(name)) {
        throw FileError(
            fmt::format("{}: {} is missing; what a record holds is in experiments/trained/README.md", place_, name));
    }
    return object_.at(name);
}

std::string RecordFields::text(const std::string& name) {
    if (const std::string value = text_or_empty(name); !value.empty()) {
        return value;
    }
    fail(name, "must not be empty");
}

std::string RecordFields::text_or_empty(const std::string& name) {
    const json& value = at(name);
    if (!value.is_string()) {
        fail(name, "must be a text");
    }
    const auto text = value.get<std::string>();
    if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
        fail(name, "must have no control characters: it is shown in tables");
    }
    return text;
}

std::string RecordFields::one_of(const std::string& name, const std::vector<std::string>& accepted) {
    const std::string value = text(name);
    if (std::ranges::find(accepted, value) == accepted.end()) {
        fail(name, fmt::format("must be one of {}{}", fmt::join(accepted, ", "), nearest_hint(shown(value), accepted)));
    }
    return value;
}

std::int64_t RecordFields::integer_of(const std::string& name, const json& value, std::int64_t least,
                                      std::int64_t most) const {
    if (!value.is_number_integer()) {
        fail(name, fmt::format("must be a whole number {}, in digits",
                               range_text(static_cast<double>(least), static_cast<double>(most))));
    }
    const bool too_large = value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(most);
    const std::int64_t number = too_large ? most : value.get<std::int64_t>();
    if (too_large || number < least || number > most) {
        fail(name, out_of(value.get<double>(), static_cast<double>(least), static_cast<double>(most)));
    }
    return number;
}

double RecordFields::number_of(const std::string& name, const json& value, FieldRange range) const {
    if (!value.is_number()) {
        fail(name, fmt::format("must be a number; a statistic that does not exist is left out of the record"));
    }
    const auto number = value.get<double>();
    if (!(number >= range.least && number <= range.most)) {
        fail(name, out_of(number, range.least, range.most));
    }
    return number;
}

std::int64_t RecordFields::integer(const std::string& name, std::int64_t least, std::int64_t most) {
    return integer_of(name, at(name), least, most);
}

double RecordFields::number(const std::string& name, FieldRange range) {
    return number_of(name, at(name), range);
}

std::vector<std::int64_t> RecordFields::integers(const std::string& name, std::int64_t least, std::int64_t most) {
    const json& list = at(name);
    if (!list.is_array()) {
        fail(name, "must be a list of whole numbers, one a sequence");
    }
    std::vector<std::int64_t> all(list.size());
    std::ranges::transform(list, all.begin(), [&](const json& value) { return integer_of(name, value, least, most); });
    return all;
}

std::vector<double> RecordFields::numbers(const std::string& name, FieldRange range) {
    const json& list = at(name);
    if (!list.is_array()) {
        fail(name, "must be a list of numbers, one a sequence");
    }
    std::vector<double> all(list.size());
    std::ranges::transform(list, all.begin(), [&](const json& value) { return number_of(name, value, range); });
    return all;
}

std::vector<std::vector<double>> RecordFields::rows(const std::string& name, std::size_t length) {
    std::vector<std::vector<double>> all;
    const json& list = at(name);
    if (!list.is_array()) {
        fail(name, fmt::format("must be a list of lists of {} numbers", length));
    }
    for (const json& row : list) {
        if (!row.is_array() || row.size() != length) {
            fail(name, fmt::format("must be a list of lists of {} numbers", length));
        }
        std::vector<double>& numbers = all.emplace_back();
        for (const json& value : row) {
            numbers.push_back(
                number_of(name, value, {std::numeric_limits<double>::lowest(), std::numeric_limits<double>::max()}));
        }
    }
    return all;
}

std::map<std::int64_t, std::int64_t> RecordFields::histogram(const std::string& name, std::int64_t most_value) {
    const json& list = at(name);
    if (!list.is_array()) {
        fail(name, "must be a list of pairs [value, count]");
    }
    std::map<std::int64_t, std::int64_t> counts;
    for (const json& pair : list) {
        if (!pair.is_array() || pair.size() != 2) {
            fail(name, "must be a list of pairs [value, count]");
        }
        const std::int64_t value = integer_of(name, pair[0], 1, most_value);
        if (!counts.emplace(value, integer_of(name, pair[1], 1, most_value * most_value)).second) {
            fail(name, fmt::format("has the value {} twice", value));
        }
    }
    return counts;
}

void RecordFields::refuse_others() const {
    const std::vector<std::string> names(known_.begin(), known_.end());
    for (const auto& [name, value] : object_.items()) {
        if (!known_.contains(name)) {
            throw FileError(fmt::format("{}: {} = {}: is no field of this kind of record{}", place_, shown(name),
                                        shown(value.dump()), nearest_hint(shown(name), names)));
        }
    }
}

}  // namespace mobalab::experiments
