#include "kernels/cuda/host/path.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <string>

#include "kernels/cuda/host/path_table.h"

namespace mobalab::kernels::cuda {
namespace {

bool is_hopper(const Device& device) {
    return device.major == 9 && device.minor == 0;
}

Status check_hopper(const PathOptions& options, const Device& device, bool has_hopper_code) {
    const auto refuse = [](const std::string& why) -> Status {
        return {StatusCode::unsupported_device,
                fmt::format("MOBALAB_CUDA_PATH = hopper: {}; nearest valid choice: portable", why)};
    };
    if (!is_hopper(device)) {
        return refuse(fmt::format("device {} has compute capability {}.{}, and these kernels run on 9.0 (H100, H200)",
                                  device.index, device.major, device.minor));
    }
    if (!has_hopper_code) return refuse("this library was built without 90a in MOBALAB_CUDA_ARCHITECTURES");
    if (options.shared_memory.value_or(hopper_shared_memory) < hopper_shared_memory) {
        return refuse(fmt::format("these kernels need {} bytes of shared memory, and MOBALAB_CUDA_SHARED_MEMORY = {}",
                                  hopper_shared_memory, *options.shared_memory));
    }
    return {};
}

std::string_view text_of(const char* variable) {
    return variable == nullptr ? "" : variable;
}

/// Of two choices by name; none for auto, or where nothing is said.
template <typename Choice>
Status read_choice(const char* variable, std::string_view name, const std::array<const char*, 2>& names,
                   const std::array<Choice, 2>& choices, std::optional<Choice>& choice) {
    if (name.empty() || name == "auto") return {};
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (name != names[i]) continue;
        choice = choices[i];
        return {};
    }
    return {StatusCode::invalid_argument, fmt::format("{} = {}: must be auto, {} or {}; nearest valid choice: auto",
                                                      variable, name, names[0], names[1])};
}

Status read_shared_memory(std::string_view bytes, std::optional<std::int64_t>& shared_memory) {
    if (bytes.empty()) return {};
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(bytes.data(), bytes.data() + bytes.size(), value);
    if (error != std::errc{} || end != bytes.data() + bytes.size() || value < portable_shared_memory) {
        return {StatusCode::invalid_argument,
                fmt::format("MOBALAB_CUDA_SHARED_MEMORY = {}: must be a number of bytes, at least {}; nearest valid "
                            "choice: {}",
                            bytes, portable_shared_memory, portable_shared_memory)};
    }
    shared_memory = value;
    return {};
}

/// Of the environment as it was at the first call: the workspace that a caller has asked for fits later calls too.
struct Environment {
    PathOptions options;
    Status status;
    Environment()
        : status(read_path_options(std::getenv("MOBALAB_CUDA_PATH"), std::getenv("MOBALAB_CUDA_SHARED_MEMORY"),
                                   std::getenv("MOBALAB_CUDA_FORWARD"), options)) {}
};
const Environment& environment() {
    static const Environment environment;
    return environment;
}

Status find_path(CudaPath& path) {
    if (!environment().status.ok()) return environment().status;
    Device device;
    if (Status s = current_device(device); !s.ok()) return s;
    if (Status s = choose_path(environment().options, device, hopper_path_table() != nullptr, path); !s.ok()) return s;
    return check_code(device);
}

}  // namespace

Status read_path_options(const char* path, const char* shared_memory, const char* forward, PathOptions& options) {
    options = {};
    if (Status s = read_choice("MOBALAB_CUDA_PATH", text_of(path), {"hopper", "portable"},
                               {CudaPath::hopper, CudaPath::portable}, options.path);
        !s.ok())
        return s;
    if (Status s = read_shared_memory(text_of(shared_memory), options.shared_memory); !s.ok()) return s;
    return read_choice("MOBALAB_CUDA_FORWARD", text_of(forward), {"lists", "queries"},
                       {ForwardAlgorithm::lists, ForwardAlgorithm::queries}, options.forward);
}

Status choose_path(const PathOptions& options, const Device& device, bool has_hopper_code, CudaPath& path) {
    if (device.major < 8) {
        return {StatusCode::unsupported_device,
                fmt::format("backend cuda: device {} has compute capability {}.{}; the kernels need 8.0 or later; "
                            "nearest valid choice: cpu",
                            device.index, device.major, device.minor)};
    }
    const Status hopper = check_hopper(options, device, has_hopper_code);
    path = options.path.value_or(hopper.ok() ? CudaPath::hopper : CudaPath::portable);
    return path == CudaPath::hopper ? hopper : Status{};
}

Status check_device() {
    CudaPath path{};
    return find_path(path);
}

CudaPath current_path() {
    CudaPath path{};
    if (find_path(path).ok()) return path;
    if (hopper_path_table() == nullptr) return CudaPath::portable;
    return environment().options.path.value_or(CudaPath::hopper);
}

std::optional<std::int64_t> asked_shared_memory() {
    return environment().options.shared_memory;
}

std::optional<ForwardAlgorithm> asked_forward() {
    return environment().options.forward;
}

}  // namespace mobalab::kernels::cuda
