#include "experiments/results/seal.h"

#include <stdexcept>
#include <string_view>

#include "experiments/results/results_file.h"

namespace mobalab::experiments {
namespace {

constexpr std::string_view mark = "\nmobalab seal ";
constexpr std::size_t uuid_size = 36;
constexpr std::size_t seal_size = mark.size() + uuid_size + 1;

std::string seal_of(std::string_view bytes) {
    return std::string(mark) + task_id(std::string(bytes)) + "\n";
}

}  // namespace

const std::size_t seal_bytes = seal_size;

bool is_seal(std::string_view end) {
    return end.size() == seal_size && end.starts_with(mark);
}

std::vector<char> sealed(std::vector<char> bytes) {
    const std::string seal = seal_of({bytes.data(), bytes.size()});
    bytes.insert(bytes.end(), seal.begin(), seal.end());
    return bytes;
}

std::vector<char> unsealed(std::vector<char> bytes) {
    const std::string_view whole(bytes.data(), bytes.size());
    if (whole.size() < seal_size || !is_seal(whole.substr(whole.size() - seal_size))) {
        throw std::runtime_error("the seal at its end is missing; another program may have changed it");
    }
    const std::size_t size = whole.size() - seal_size;
    if (whole.substr(size) != seal_of(whole.substr(0, size))) {
        throw std::runtime_error("its bytes are not those its seal was made of");
    }
    bytes.resize(size);
    return bytes;
}

}  // namespace mobalab::experiments
