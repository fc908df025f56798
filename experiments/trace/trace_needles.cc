#include <fmt/format.h>

#include "experiments/base/regular_file.h"
#include "experiments/trace/checked_json.h"
#include "experiments/trace/trace_metadata.h"

namespace mobalab::experiments {
namespace {

using nlohmann::json;

/// One object of the list.
class NeedleReader {
public:
    NeedleReader(std::string where, const json& object, std::int64_t tokens)
        : where_(std::move(where)), object_(object), tokens_(tokens) {}

    TraceNeedle read() const {
        if (!object_.is_object()) {
            fail("must be an object with query, key and fact");
        }
        TraceNeedle needle;
        needle.query = positions("query", tokens_ - 1);
        needle.key = positions("key", tokens_ - 1);
        check_pairs(needle);
        const std::vector<std::int64_t> fact = positions("fact", tokens_);
        if (fact.size() != 2 || fact[0] >= fact[1]) {
            fail("fact must be [its first token, the token behind its last]");
        }
        needle.fact_begin = fact[0];
        needle.fact_end = fact[1];
        needle.name = name();
        return needle;
    }

private:
    [[noreturn]] void fail(const std::string& rule) const { throw FileError(fmt::format("{}: {}", where_, rule)); }

    std::vector<std::int64_t> positions(const char* field, std::int64_t most) const {
        const auto found = object_.find(field);
        if (found == object_.end() || !found->is_array() || found->empty()) {
            fail(fmt::format("must have a list {} of token numbers", field));
        }
        std::vector<std::int64_t> values;
        for (const json& value : *found) {
            if (!value.is_number_unsigned() || value.get<std::uint64_t>() > static_cast<std::uint64_t>(most)) {
                fail(fmt::format("{} holds {}: must be whole numbers from 0 to {} (a text of {} tokens)", field,
                                 shown(value.dump()), most, tokens_));
            }
            values.push_back(value.get<std::int64_t>());
        }
        return values;
    }

    void check_pairs(const TraceNeedle& needle) const {
        if (needle.query.size() != needle.key.size()) {
            fail(fmt::format("{} queries and {} keys: must be as many, pair by pair", needle.query.size(),
                             needle.key.size()));
        }
        for (std::size_t i = 0; i < needle.query.size(); ++i) {
            if (needle.key[i] >= needle.query[i]) {
                fail(fmt::format("key {} is not before its query {}, which cannot look it up", needle.key[i],
                                 needle.query[i]));
            }
        }
    }

    std::string name() const {
        if (const auto found = object_.find("name"); found != object_.end() && found->is_string()) {
            return found->get<std::string>();
        }
        std::string only;
        for (const auto& [field, value] : object_.items()) {
            if (value.is_string()) {
                if (!only.empty()) {
                    return "";
                }
                only = value.get<std::string>();
            }
        }
        return only;
    }

    std::string where_;
    const json& object_;
    std::int64_t tokens_;
};

}  // namespace

std::vector<TraceNeedle> read_needles(const std::string& path, const std::string& text, std::int64_t tokens) {
    const std::string where = path + ": metadata needles";
    const json list = checked_json(text, where);
    if (!list.is_array()) {
        throw FileError(where + ": must be a list of objects with query, key and fact");
    }
    std::vector<TraceNeedle> needles;
    for (const json& object : list) {
        needles.push_back(NeedleReader(fmt::format("{}[{}]", where, needles.size()), object, tokens).read());
    }
    return needles;
}

}  // namespace mobalab::experiments
