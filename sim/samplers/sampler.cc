#include "sim/samplers/sampler.h"

#include <fmt/format.h>

#include <array>
#include <stdexcept>

namespace mobalab::sim {
namespace {

struct Entry {
    Method method;
    std::unique_ptr<Sampler> (*make)(const SamplerInput&);
};

constexpr std::array kSamplers = {
    Entry{Method::vector, make_vector_sampler},
    Entry{Method::affinity, make_affinity_sampler},
    Entry{Method::block, make_block_sampler},
    Entry{Method::threshold, make_threshold_sampler},
};

}  // namespace

std::unique_ptr<Sampler> make_sampler(Method method, const SamplerInput& input) {
    for (const Entry& entry : kSamplers) {
        if (entry.method == method) {
            return entry.make(input);
        }
    }
    throw std::logic_error("make_sampler: a method that counts no trials");
}

std::uint64_t signal_block_index(PhiloxKey key, std::uint64_t trial, std::int64_t candidates) {
    const std::uint64_t word = philox_block(key, trial, kIndexDraw)[0];
    return (word * static_cast<std::uint64_t>(candidates)) >> 32U;  // bias below candidates / 2^32
}

void check_draws(const analysis::RoutingPoint& point, double draws_per_trial, double room) {
    if (draws_per_trial > room) {
        throw analysis::InputError(fmt::format(
            "head_dim = {}, block_size = {}, candidates = {}: one trial of model {} needs {:.3g} random blocks, the "
            "counter has room for {:.3g}; use {}",
            point.head_dim, point.block_size, point.candidates, analysis::to_string(point.model), draws_per_trial, room,
            method_trouble(point, Method::threshold).empty()
                ? "method threshold, or model gaussian-fixed, which needs one number a block"
                : "fewer candidates or a smaller block_size"));
    }
}

std::uint64_t stream_identity(const analysis::RoutingPoint& point, Method method) {
    analysis::RoutingPoint stream = point;
    stream.topk = 1;
    stream.goal = analysis::Goal::each;
    if (analysis::definition_of(point.scorer.kind).parts > 0) {
        stream.scorer = {};
    }
    std::string text = analysis::canonical_text(stream);
    if (method != native_method(stream)) {
        text += fmt::format(";method={}", to_string(method));
    }
    return hash_text(text);
}

}  // namespace mobalab::sim
