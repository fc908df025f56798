#include "sim/simd/instruction_set.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "analysis/routing_point.h"
#include "sim/simd/tables.h"

namespace mobalab::sim {
namespace {

constexpr std::array<std::pair<InstructionSet, std::string_view>, 3> kNames = {
    {{InstructionSet::baseline, "baseline"}, {InstructionSet::avx2, "avx2"}, {InstructionSet::avx512, "avx512"}}};

bool processor_has(InstructionSet set) {
#if defined(MOBALAB_SIM_X86)
    switch (set) {
        case InstructionSet::baseline:
            return true;
        case InstructionSet::avx2:
            return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
                   __builtin_cpu_supports("bmi2") != 0;
        case InstructionSet::avx512:
            return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                   __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
                   __builtin_cpu_supports("avx512cd") != 0;
    }
    return false;
#else
    return set == InstructionSet::baseline;
#endif
}

const HotLoops& default_choice() {
    const char* name = std::getenv("MOBALAB_SIMD");
    return loops_of(name != nullptr ? parse_instruction_set(name) : available_instruction_sets().back());
}

}  // namespace

std::string_view to_string(InstructionSet set) {
    for (const auto& [known, name] : kNames) {
        if (known == set) {
            return name;
        }
    }
    throw std::logic_error("to_string: not an InstructionSet");
}

InstructionSet parse_instruction_set(std::string_view name) {
    for (const auto& [set, known] : kNames) {
        if (known == name) {
            return set;
        }
    }
    throw analysis::InputError(fmt::format(
        "MOBALAB_SIMD = '{}': must be one of baseline, avx2, avx512; leave it unset for the fastest", name));
}

const std::vector<InstructionSet>& available_instruction_sets() {
    static const std::vector<InstructionSet> available = [] {
        std::vector<InstructionSet> sets;
        for (const auto& entry : kNames) {
            if (processor_has(entry.first)) {
                sets.push_back(entry.first);
            }
        }
        return sets;
    }();
    return available;
}

const HotLoops& loops_of(InstructionSet set) {
    if (!processor_has(set)) {
        throw analysis::InputError(
            fmt::format("instruction set {}: this processor does not have it; the fastest it has is {}", to_string(set),
                        to_string(available_instruction_sets().back())));
    }
#if defined(MOBALAB_SIM_X86)
    if (set == InstructionSet::avx512) {
        return avx512_loops();
    }
    if (set == InstructionSet::avx2) {
        return avx2_loops();
    }
#endif
    return baseline_loops();
}

const HotLoops& default_loops() {
    static const HotLoops& chosen = default_choice();
    return chosen;
}

}  // namespace mobalab::sim
