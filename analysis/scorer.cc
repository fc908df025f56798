#include "analysis/scorer.h"

#include <fmt/format.h>

#include <charconv>
#include <cstddef>
#include <iterator>
#include <span>

#include "analysis/routing_point.h"

namespace mobalab::analysis {

#define MOBALAB_DECLARE_SCORER(name) extern const ScorerDefinition name##_scorer;
MOBALAB_ANALYSIS_SCORERS(MOBALAB_DECLARE_SCORER)
#undef MOBALAB_DECLARE_SCORER

namespace {

std::span<const ScorerDefinition* const> all_scorers() {
#define MOBALAB_SCORER_ADDRESS(name) &name##_scorer,
    static constexpr const ScorerDefinition* all[] = {MOBALAB_ANALYSIS_SCORERS(MOBALAB_SCORER_ADDRESS)};
#undef MOBALAB_SCORER_ADDRESS
    return all;
}

/// The R of "submean-R"; 0 for what is no whole number from 2 on, written plainly.
std::int64_t sub_blocks_of(std::string_view digits) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    const bool plain = error == std::errc() && end == digits.data() + digits.size() && digits.front() != '0';
    return plain && value >= 2 ? value : 0;
}

std::string names_of(bool (*wanted)(const ScorerDefinition&)) {
    std::string names;
    for (const ScorerDefinition* definition : all_scorers()) {
        if (!wanted(*definition)) continue;
        names += fmt::format("{}{}{}", names.empty() ? "" : ", ", definition->name, definition->divides ? "-R" : "");
    }
    return names;
}

}  // namespace

const ScorerDefinition& definition_of(ScorerKind kind) {
    return *all_scorers()[static_cast<std::size_t>(kind)];
}

std::string to_string(const Scorer& scorer) {
    const std::string_view name = definition_of(scorer.kind).name;
    return scorer.sub_blocks == 1 ? std::string(name) : fmt::format("{}-{}", name, scorer.sub_blocks);
}

Scorer parse_scorer(std::string_view name) {
    for (std::size_t number = 0; number < all_scorers().size(); ++number) {
        const ScorerDefinition& definition = *all_scorers()[number];
        const auto kind = static_cast<ScorerKind>(number);
        if (!definition.divides && name == definition.name) {
            return {kind, 1};
        }
        const std::size_t prefix = definition.name.size() + 1;
        if (definition.divides && name.size() > prefix && name.substr(0, prefix - 1) == definition.name &&
            name[prefix - 1] == '-') {
            if (const std::int64_t sub_blocks = sub_blocks_of(name.substr(prefix)); sub_blocks > 0) {
                return {kind, sub_blocks};
            }
        }
    }
    throw InputError(fmt::format("scorer = '{}': must be one of {}, R the sub-blocks of a block (2, 4, 8, ...)", name,
                                 scorer_names()));
}

std::string scorer_names() {
    return names_of([](const ScorerDefinition&) { return true; });
}

std::string scorers_with_law() {
    return names_of([](const ScorerDefinition& definition) { return definition.law != nullptr; });
}

std::string scorers_with_approximation() {
    return names_of([](const ScorerDefinition& definition) { return definition.approximation != nullptr; });
}

}  // namespace mobalab::analysis
