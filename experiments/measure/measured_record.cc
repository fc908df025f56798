#include "experiments/measure/measured_record.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>
#include <sstream>

#include "experiments/base/values.h"

namespace mobalab::experiments {
namespace {

bool read(std::istream& text, DistanceHistogram& distances) {
    constexpr std::size_t most_bins = 64;
    std::size_t bins = 0;
    if (!(text >> bins) || bins > most_bins) {
        return false;
    }
    distances.resize(bins);
    for (DistanceCounts& counts : distances) {
        text >> counts.routed >> counts.needles;
    }
    return !text.fail();
}

}  // namespace

std::string record_of(const std::vector<MeasuredSetting>& settings) {
    std::vector<std::string> words;
    for (const MeasuredSetting& setting : settings) {
        for (const std::int64_t count : setting.counts) {
            words.push_back(std::to_string(count));
        }
        for (const double value : setting.values) {
            words.push_back(shortest(value));
        }
        words.push_back(std::to_string(setting.distances.size()));
        for (const DistanceCounts& counts : setting.distances) {
            words.push_back(std::to_string(counts.routed));
            words.push_back(std::to_string(counts.needles));
        }
    }
    return fmt::format("{}", fmt::join(words, " "));
}

std::optional<std::vector<MeasuredSetting>> settings_of(const std::string& record, std::size_t count) {
    std::istringstream text(record);
    std::vector<MeasuredSetting> settings(count);
    std::string word;
    for (MeasuredSetting& setting : settings) {
        for (std::int64_t& number : setting.counts) {
            if (!(text >> number)) {
                return std::nullopt;
            }
        }
        for (double& value : setting.values) {
            if (!(text >> word)) {
                return std::nullopt;
            }
            char* end = nullptr;
            value = std::strtod(word.c_str(), &end);  // reads "nan" and "inf", which streams do not
            if (*end != '\0') {
                return std::nullopt;
            }
        }
        if (!read(text, setting.distances)) {
            return std::nullopt;
        }
    }
    return text >> word ? std::nullopt : std::optional(std::move(settings));
}

}  // namespace mobalab::experiments
