#include "analysis/key_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstddef>
#include <span>

#include "analysis/routing_point.h"

namespace mobalab::analysis {

#define MOBALAB_DECLARE_MODEL(name) extern const KeyModelDefinition name##_model;
MOBALAB_ANALYSIS_KEY_MODELS(MOBALAB_DECLARE_MODEL)
#undef MOBALAB_DECLARE_MODEL

namespace {

std::span<const KeyModelDefinition* const> all_models() {
#define MOBALAB_MODEL_ADDRESS(name) &name##_model,
    static constexpr const KeyModelDefinition* all[] = {MOBALAB_ANALYSIS_KEY_MODELS(MOBALAB_MODEL_ADDRESS)};
#undef MOBALAB_MODEL_ADDRESS
    return all;
}

}  // namespace

const KeyModelDefinition& definition_of(Model model) {
    return *all_models()[static_cast<std::size_t>(model)];
}

std::string_view to_string(Model model) {
    return definition_of(model).name;
}

Model parse_model(std::string_view name) {
    for (std::size_t number = 0; number < all_models().size(); ++number) {
        if (all_models()[number]->name == name) return static_cast<Model>(number);
    }
    throw InputError(fmt::format("model = '{}': must be one of {}", name, fmt::join(key_model_names(), ", ")));
}

std::vector<std::string> key_model_names() {
    std::vector<std::string> names;
    for (const KeyModelDefinition* definition : all_models()) names.emplace_back(definition->name);
    return names;
}

}  // namespace mobalab::analysis
