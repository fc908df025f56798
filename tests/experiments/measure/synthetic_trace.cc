#include "tests/experiments/measure/synthetic_trace.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace mobalab::experiments {
namespace {

constexpr std::int64_t tokens = 1256;
constexpr std::int64_t queries = 256;  // the first 26 have no distant key
constexpr std::int64_t head_dim = 16;
constexpr std::int64_t value_dim = 24;  // more than head_dim: attention takes them in two parts
constexpr std::int64_t most = 8;

double whole(double value) {
    return std::clamp<double>(std::round(value), -most, most);
}

std::string bytes_of(const std::vector<const Rows*>& heads, const std::string& type) {
    std::string bytes;
    for (std::size_t row = 0; row < heads.front()->size(); ++row) {
        for (const Rows* head : heads) {
            for (const double value : (*head)[row]) {
                bytes += element(type, static_cast<float>(value));
            }
        }
    }
    return bytes;
}

}  // namespace

SyntheticTrace synthetic_trace(std::uint64_t seed, const std::string& type) {
    std::mt19937_64 bits(seed);
    std::normal_distribution<double> normal;
    std::vector<double> shared(head_dim);
    for (double& value : shared) {
        value = 1.2 * normal(bits);
    }
    JudgedHead common;
    common.q_start = tokens - queries;
    common.scale = 0.04;  // not head_dim^-1/2
    common.bf16 = type == "bf16";
    std::vector<double> noise(head_dim);
    for (std::int64_t t = 0; t < tokens; ++t) {
        std::vector<double> key(head_dim);
        std::vector<double> value(value_dim);
        for (std::size_t c = 0; c < key.size(); ++c) {
            noise[c] = 0.8 * noise[c] + 1.2 * normal(bits);
            const double drift = 1.5 * std::cos(static_cast<double>(t) / (40.0 * static_cast<double>(c + 1)));
            key[c] = whole(t == 0 ? 2.5 * shared[c] : shared[c] + noise[c] + drift);
        }
        for (double& channel : value) {
            channel = whole(2.0 * normal(bits));
        }
        common.k.push_back(key);
        common.v.push_back(value);
    }
    for (std::int64_t i = 0; i < 12; ++i) {
        common.facts.push_back({common.q_start + 3 + 20 * i, 10 + 97 * i});
    }
    SyntheticTrace trace;
    for (int head = 0; head < 2; ++head) {
        JudgedHead made = common;
        for (std::int64_t r = 0; r < queries; ++r) {
            std::vector<double> q(head_dim);
            for (std::size_t c = 0; c < q.size(); ++c) {
                q[c] = whole(shared[c] + 1.5 * normal(bits));
            }
            for (const auto& [query, key] : common.facts) {
                if (query == common.q_start + r) {
                    for (std::size_t c = 0; c < q.size(); ++c) {
                        q[c] = whole(q[c] + common.k[static_cast<std::size_t>(key)][c]);
                    }
                }
            }
            made.q.push_back(q);
        }
        trace.heads.push_back(made);
    }

    std::string needles;
    for (const auto& [query, key] : common.facts) {
        needles += (needles.empty() ? "" : ", ") + ("{\"query\": [" + std::to_string(query)) + "], \"key\": [" +
                   std::to_string(key) + "], \"fact\": [" + std::to_string(key) + ", " + std::to_string(key + 1) + "]}";
    }
    trace.file.tensors = {{"q", type, {queries, 2, head_dim}, bytes_of({&trace.heads[0].q, &trace.heads[1].q}, type)},
                          {"k", type, {tokens, 1, head_dim}, bytes_of({&common.k}, type)},
                          {"v", type, {tokens, 1, value_dim}, bytes_of({&common.v}, type)}};
    trace.file.metadata = {{"format", "qkv-trace"},
                           {"format_version", "1"},
                           {"layout", "token,head,dim"},
                           {"model", "synthetic"},
                           {"text", "drawn by a test"},
                           {"layer", "3"},
                           {"layers", "4"},
                           {"query_heads", "2"},
                           {"key_heads", "1"},
                           {"head_dim", std::to_string(head_dim)},
                           {"scale", "0.04"},
                           {"causal", "1"},
                           {"rope", "post"},
                           {"q_start", std::to_string(common.q_start)},
                           {"k_start", "0"},
                           {"tokens", std::to_string(tokens)},
                           {"dtype", type},
                           {"needles", "[" + needles + "]"}};
    return trace;
}

}  // namespace mobalab::experiments
