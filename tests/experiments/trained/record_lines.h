#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace mobalab::experiments {

// Records as a training writes them, small enough to change by hand.

inline nlohmann::json run_record(const std::string& name = "m", std::int64_t seed = 0) {
    return {
        {"kind", "run"},      {"run", name},      {"experiment", "recall"}, {"attention", "moba"}, {"block_size", 32},
        {"topk", 3},          {"scorer", "mean"}, {"key_conv", 0},          {"head_dim", 64},      {"heads", 2},
        {"layers", 4},        {"width", 128},     {"parameters", 1000},     {"seed", seed},        {"seq_len", 1024},
        {"steps", 10},        {"tokens", 4096},   {"seconds", 1.5},         {"device", "cpu"},     {"torch", "2.11"},
        {"commit", "0123abc"}};
}

inline nlohmann::json plain_run(const std::string& name, const std::string& attention, const std::string& experiment) {
    nlohmann::json record = run_record(name);
    record.update(
        {{"attention", attention}, {"experiment", experiment}, {"block_size", 0}, {"topk", 0}, {"scorer", ""}});
    return record;
}

/// Of 2 sequences that ask 10 pairs each, 3 of them in the own block.
inline nlohmann::json accuracy_record(const std::string& run = "m") {
    return {{"kind", "accuracy"}, {"run", run},    {"seq_len", 1024},
            {"asked", 20},        {"correct", 12}, {"sequences", 2},
            {"own_block", 3},     {"any_hit", 11}, {"sequence_correct", {7, 5}}};
}

/// Of the 17 queries that are left.
inline nlohmann::json head_record(std::int64_t head, const std::string& run = "m") {
    return {{"kind", "head"},
            {"run", run},
            {"seq_len", 1024},
            {"layer", 1},
            {"head", head},
            {"queries", 17},
            {"hits", 9},
            {"sequence_queries", {9, 8}},
            {"sequence_hits", {6, 3}},
            {"own_block", 3},
            {"candidates", nlohmann::json::parse("[[30, 10], [31, 7]]")},
            {"signal_mean", 1.5},
            {"signal_sd", 0.8}};
}

inline nlohmann::json validation_record(const std::string& run, double first, double second) {
    return {{"kind", "validation"},
            {"run", run},
            {"step", 100},
            {"seq_len", 2048},
            {"tokens", 4096},
            {"sequences", 2},
            {"loss", 0.5 * (first + second)},
            {"sequence_loss", {first, second}}};
}

inline std::string json_lines(const std::vector<nlohmann::json>& records) {
    std::string text;
    for (const nlohmann::json& record : records) {
        text += record.dump() + "\n";
    }
    return text;
}

}  // namespace mobalab::experiments
