#include <string_view>
#include <vector>

#include "experiments/ranks/ranks.h"

namespace mobalab::experiments {
namespace {

std::vector<std::string> device_names(const char* visible, int devices) {
    std::vector<std::string> names;
    if (visible == nullptr) {
        for (int device = 0; device < devices; ++device) {
            names.push_back(std::to_string(device));
        }
        return names;
    }
    std::string_view rest = visible;
    while (!rest.empty()) {
        const std::size_t comma = rest.find(',');
        names.emplace_back(rest.substr(0, comma));
        rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
    }
    return names;
}

}  // namespace

std::optional<std::string> device_of_rank(const char* visible, int devices, int local_rank) {
    const std::vector<std::string> names = device_names(visible, devices);
    if (names.size() < 2) {
        return std::nullopt;
    }
    return names[static_cast<std::size_t>(local_rank) % names.size()];
}

}  // namespace mobalab::experiments
