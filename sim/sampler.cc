#include "sim/sampler.h"

#include <fmt/format.h>

#include <array>
#include <stdexcept>

namespace mobalab::sim {
namespace {

using analysis::Model;

struct Entry {
    Model model;
    std::unique_ptr<Sampler> (*make)(const analysis::RoutingPoint&, PhiloxKey);
};

constexpr std::array kSamplers = {
    Entry{Model::gaussian, make_gaussian_sampler},
    Entry{Model::gaussian_fixed, make_gaussian_sampler},
    Entry{Model::sphere, make_sphere_sampler},
    Entry{Model::vector, make_vector_sampler},
};

}  // namespace

std::unique_ptr<Sampler> make_sampler(const analysis::RoutingPoint& point, PhiloxKey key) {
    for (const Entry& entry : kSamplers) {
        if (entry.model == point.model) {
            return entry.make(point, key);
        }
    }
    throw std::logic_error("make_sampler: a model without a sampler");
}

std::uint64_t signal_block_index(PhiloxKey key, std::uint64_t trial, std::int64_t candidates) {
    const std::uint64_t word = philox_block(key, trial, kIndexDraw)[0];
    return (word * static_cast<std::uint64_t>(candidates)) >> 32U;  // bias below candidates / 2^32
}

void check_draws(const analysis::RoutingPoint& point, double draws_per_trial) {
    if (draws_per_trial > static_cast<double>(kIndexDraw)) {
        throw analysis::InputError(fmt::format(
            "head_dim = {}, block_size = {}, candidates = {}: one trial of model {} needs {:.3g} random blocks, the "
            "counter has room for {:.3g}; use model gaussian-fixed, which needs one number a block",
            point.head_dim, point.block_size, point.candidates, analysis::to_string(point.model), draws_per_trial,
            static_cast<double>(kIndexDraw)));
    }
}

std::uint64_t stream_identity(const analysis::RoutingPoint& point) {
    analysis::RoutingPoint stream = point;
    stream.topk = 1;
    return hash_text(analysis::canonical_text(stream));
}

}  // namespace mobalab::sim
