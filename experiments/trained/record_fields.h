#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace mobalab::experiments {

/// Limits of a field; both ends are valid.
struct FieldRange {
    double least;
    double most;
};

/// The fields of one record, each with its rule. Everything throws FileError: "FILE: line N: FIELD = VALUE: rule".
class RecordFields {
public:
    /// `place` is "FILE: line N". The object must be a JSON object.
    RecordFields(nlohmann::json object, std::string place);

    const std::string& place() const { return place_; }
    [[noreturn]] void fail(const std::string& name, const std::string& rule) const;

    /// Whether an optional field is there.
    bool has(const std::string& name);

    std::string text(const std::string& name);  ///< not empty
    std::string text_or_empty(const std::string& name);
    std::string one_of(const std::string& name, const std::vector<std::string>& accepted);
    std::int64_t integer(const std::string& name, std::int64_t least, std::int64_t most);
    double number(const std::string& name, FieldRange range);
    std::vector<std::int64_t> integers(const std::string& name, std::int64_t least, std::int64_t most);
    std::vector<double> numbers(const std::string& name, FieldRange range);

    /// A list of lists of `length` numbers.
    std::vector<std::vector<double>> rows(const std::string& name, std::size_t length);

    /// A list of pairs [value, count], no value twice.
    std::map<std::int64_t, std::int64_t> histogram(const std::string& name, std::int64_t most_value);

    /// Refuses fields that nobody asked for.
    void refuse_others() const;

private:
    const nlohmann::json& at(const std::string& name);
    std::int64_t integer_of(const std::string& name, const nlohmann::json& value, std::int64_t least,
                            std::int64_t most) const;
    double number_of(const std::string& name, const nlohmann::json& value, FieldRange range) const;

    nlohmann::json object_;
    std::string place_;
    std::set<std::string> known_;
};

}  // namespace mobalab::experiments
