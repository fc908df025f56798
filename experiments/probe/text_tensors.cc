#include "experiments/probe/text_tensors.h"

#include <cmath>
#include <complex>

#include "sim/streams/gaussian.h"

namespace mobalab::experiments {
namespace {

using analysis::TextKeys;

std::complex<double> turn(const TextKeys& keys, std::size_t pair, std::int64_t position) {
    return std::polar(1.0, keys.frequencies[pair] * static_cast<double>(position));
}

double mean_coordinate(const TextKeys& keys) {
    return keys.mean_length * keys.mean_part;
}

// One coordinate's sum of processes, token after token.
class Coordinate {
public:
    Coordinate(const TextKeys& keys, std::size_t pair)
        : keys_(&keys), sd_(std::sqrt(keys.variances[pair])), states_(keys.decays.size()) {}

    // `normals`: one for the white part, then one for each process.
    double next(const float* normals, bool first) {
        double sum = std::sqrt(keys_->white) * static_cast<double>(normals[0]);
        for (std::size_t j = 0; j < states_.size(); ++j) {
            const double decay = keys_->decays[j];
            const auto normal = static_cast<double>(normals[1 + j]);
            states_[j] = first ? normal : decay * states_[j] + std::sqrt(1.0 - decay * decay) * normal;
            sum += std::sqrt(keys_->lasting) * states_[j];
        }
        return sd_ * sum;
    }

private:
    const TextKeys* keys_;
    double sd_;
    std::vector<double> states_;
};

}  // namespace

std::vector<float> draw_text_keys(const TextKeys& keys, std::int64_t tokens, sim::PhiloxKey key,
                                  std::uint64_t subsequence) {
    const std::size_t processes = 1 + keys.decays.size();
    const auto head_dim = static_cast<std::size_t>(keys.head_dim);
    std::vector<float> normals((2 * keys.pairs() * processes + 3) / 4 * 4);
    std::vector<Coordinate> coordinates;
    for (std::size_t e = 0; e < 2 * keys.pairs(); ++e) {
        coordinates.emplace_back(keys, e / 2);
    }
    std::vector<float> tensor(static_cast<std::size_t>(tokens) * head_dim, 0.0F);
    for (std::int64_t t = 0; t < tokens; ++t) {
        sim::fill_gaussian(normals, key, subsequence, static_cast<std::uint64_t>(t) * (normals.size() / 4));
        float* row = tensor.data() + static_cast<std::size_t>(t) * head_dim;
        for (std::size_t pair = 0; pair < keys.pairs(); ++pair) {
            const float* of_pair = normals.data() + 2 * pair * processes;
            const double real = mean_coordinate(keys) + coordinates[2 * pair].next(of_pair, t == 0);
            const double imaginary = coordinates[2 * pair + 1].next(of_pair + processes, t == 0);
            const std::complex<double> turned = std::complex<double>(real, imaginary) * turn(keys, pair, t);
            row[2 * pair] = static_cast<float>(turned.real());
            row[2 * pair + 1] = static_cast<float>(turned.imag());
        }
    }
    if (keys.sink > 0.0) {
        tensor[head_dim - 2] = static_cast<float>(keys.sink);
    }
    return tensor;
}

void build_text_query(const TextKeys& keys, const TextQuery& recipe, std::span<const float> needle_key,
                      sim::PhiloxKey key, std::uint64_t subsequence, std::span<float> query) {
    const std::size_t pairs = keys.pairs();
    std::vector<float> normals((2 * pairs + 3) / 4 * 4);
    sim::fill_gaussian(normals, key, subsequence, recipe.noise * (normals.size() / 4));
    std::vector<std::complex<double>> needle(pairs);
    std::vector<std::complex<double>> noise(pairs);
    for (std::size_t pair = 0; pair < pairs; ++pair) {
        const std::complex<double> whole(needle_key[2 * pair], needle_key[2 * pair + 1]);
        const std::complex<double> centred = whole - mean_coordinate(keys) * turn(keys, pair, recipe.needle);
        needle[pair] = centred * std::conj(turn(keys, pair, recipe.position));
        noise[pair] = {normals[2 * pair], normals[2 * pair + 1]};
    }
    const auto built = analysis::text_query(keys, needle, noise, recipe.mu_signal, recipe.query_mean);
    for (std::size_t pair = 0; pair < pairs; ++pair) {
        const std::complex<double> turned = built[pair] * turn(keys, pair, recipe.position);
        query[2 * pair] = static_cast<float>(turned.real());
        query[2 * pair + 1] = static_cast<float>(turned.imag());
    }
    if (keys.sink > 0.0) {
        query[2 * pairs] = static_cast<float>(keys.query_sink);
        query[2 * pairs + 1] = 0.0F;
    }
}

}  // namespace mobalab::experiments
