#include "tests/experiments/predict/autoregressive_head.h"

#include <cmath>
#include <random>

#include "tests/experiments/trace/trace_files.h"

namespace mobalab::experiments {

AutoregressiveHead autoregressive_head(std::uint64_t seed, std::int64_t tokens) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform;
    constexpr double neighbour = 0.7;  // correlation of neighbouring keys
    constexpr double likeness = 1.4;   // of a query and its key
    AutoregressiveHead head{.tokens = tokens, .q_start = tokens / 3, .head_dim = 24, .q = {}, .k = {}};
    const auto d = static_cast<std::size_t>(head.head_dim);
    for (std::size_t i = 0; i < static_cast<std::size_t>(head.tokens) * d; ++i) {
        const double old = i < d ? normal(random) : head.k[i - d];
        head.k.push_back(static_cast<float>(neighbour * old + std::sqrt(1.0 - neighbour * neighbour) * normal(random)));
    }
    for (std::int64_t t = head.q_start; t < head.tokens; ++t) {
        const auto distance = static_cast<std::int64_t>(std::exp(uniform(random) * std::log(static_cast<double>(t))));
        const auto key = static_cast<std::size_t>(std::max<std::int64_t>(1, t - distance)) * d;
        for (std::size_t c = 0; c < d; ++c) {
            head.q.push_back(static_cast<float>(0.35 * (normal(random) + likeness * head.k[key + c])));
        }
    }
    return head;
}

std::string trace_bytes(const std::vector<AutoregressiveHead>& heads) {
    const auto of_heads = static_cast<std::int64_t>(heads.size());
    const AutoregressiveHead& first = heads.front();
    const auto tensor = [&](const char* name, std::int64_t rows, std::vector<float> AutoregressiveHead::*values) {
        TestTensor made{.name = name, .type = "fp32", .shape = {rows, of_heads, first.head_dim}, .bytes = {}};
        const auto d = static_cast<std::size_t>(first.head_dim);
        for (std::size_t row = 0; row < static_cast<std::size_t>(rows); ++row) {
            for (const AutoregressiveHead& head : heads) {
                for (std::size_t c = 0; c < d; ++c) made.bytes += element("fp32", (head.*values)[row * d + c]);
            }
        }
        return made;
    };
    TestTrace trace = sample_trace(kernels::DataType::fp32, false);
    trace.tensors = {tensor("q", first.tokens - first.q_start, &AutoregressiveHead::q),
                     tensor("k", first.tokens, &AutoregressiveHead::k)};
    const auto number = [](std::int64_t value) { return std::to_string(value); };
    for (const auto& [name, value] : std::map<std::string, std::string>{{"layer", "2"},
                                                                        {"layers", "4"},
                                                                        {"query_heads", number(of_heads)},
                                                                        {"key_heads", number(of_heads)},
                                                                        {"head_dim", number(first.head_dim)},
                                                                        {"tokens", number(first.tokens)},
                                                                        {"q_start", number(first.q_start)},
                                                                        {"scale", "1"},
                                                                        {"dtype", "fp32"},
                                                                        {"needles", "[]"}}) {
        trace.metadata[name] = value;
    }
    trace.metadata.erase("value_dim");
    return safetensors_bytes(trace);
}

}  // namespace mobalab::experiments
