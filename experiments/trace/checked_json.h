#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace mobalab::experiments {

/// JSON of a foreign file: valid UTF-8, no key twice in an object, at most 8 levels deep and 2^20 values, so that its
/// memory is in proportion to its text. Throws FileError: "<where>: is no valid JSON: ..." with `where` naming the file
/// and the place in it.
nlohmann::json checked_json(std::string_view text, const std::string& where);

/// At most `most` bytes of a text from a file, for a message of one line: control characters, quotes and what is not
/// ASCII escaped.
std::string shown(std::string_view text, std::size_t most = 60);

}  // namespace mobalab::experiments
