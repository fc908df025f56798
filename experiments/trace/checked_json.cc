#include "experiments/trace/checked_json.h"

#include <fmt/format.h>

#include <set>
#include <stdexcept>
#include <vector>

#include "experiments/base/regular_file.h"

namespace mobalab::experiments {
namespace {

using nlohmann::json;

constexpr int deepest = 8;
constexpr std::int64_t most_values = std::int64_t{1} << 20;

/// Looks at every event of the parser; throws std::runtime_error for what is refused.
class Rules {
public:
    void look(int depth, json::parse_event_t event, const json& parsed) {
        using Event = json::parse_event_t;
        if (++events_ > most_values) {
            throw std::runtime_error(fmt::format("has more than {} values", most_values));
        }
        if (event == Event::object_start || event == Event::array_start) {
            if (depth >= deepest) {
                throw std::runtime_error(fmt::format("is more than {} levels deep", deepest));
            }
            keys_.resize(static_cast<std::size_t>(depth) + 2);
            keys_.back().clear();
        }
        if (event == Event::key && !keys_[static_cast<std::size_t>(depth)].insert(parsed.get<std::string>()).second) {
            throw std::runtime_error(fmt::format("has the key \"{}\" twice", shown(parsed.get<std::string>())));
        }
    }

private:
    std::int64_t events_ = 0;
    std::vector<std::set<std::string>> keys_;  // those of the open objects, by depth
};

/// nlohmann's messages show the text they stumbled over, which may be anything.
std::string reason(const json::exception& error) {
    const std::string_view text = error.what();
    const std::size_t start = text.find("] ");
    return shown(text.substr(start == std::string_view::npos ? 0 : start + 2), 200);
}

}  // namespace

json checked_json(std::string_view text, const std::string& where) {
    Rules rules;
    try {
        return json::parse(text, [&rules](int depth, json::parse_event_t event, json& parsed) {
            rules.look(depth, event, parsed);
            return true;
        });
    } catch (const json::exception& error) {
        throw FileError(fmt::format("{}: is no valid JSON: {}", where, reason(error)));
    } catch (const std::runtime_error& error) {
        throw FileError(fmt::format("{}: is no valid JSON: {}", where, error.what()));
    }
}

std::string shown(std::string_view text, std::size_t most) {
    std::string line;
    for (const char character : text.substr(0, most)) {
        const auto byte = static_cast<unsigned char>(character);
        line += byte < 0x20 || byte > 0x7e || byte == '"' ? fmt::format("\\x{:02x}", byte) : std::string(1, character);
    }
    return text.size() > most ? line + "..." : line;
}

}  // namespace mobalab::experiments
