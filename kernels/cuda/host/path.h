#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/cuda/host/device.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Which kernels run where the two differ (attention and routing): those that need the tensor copies and warpgroup
/// products of Hopper, or those of mma.sync and cp.async, which every device from 8.0 on runs.
enum class CudaPath { hopper, portable };

/// How attention_forward goes through a problem on the Hopper path; forward/forward_choice.h.
enum class ForwardAlgorithm { lists, queries };

/// Shared memory of a thread block that every device from 8.0 on has (8.6, 8.9 and 12.0 have no more): the portable
/// kernels need at most this.
inline constexpr std::int64_t portable_shared_memory = 99 * 1024;
/// What the Hopper kernels may need.
inline constexpr std::int64_t hopper_shared_memory = 227 * 1024;

/// What the environment asks for.
struct PathOptions {
    std::optional<CudaPath> path;               ///< MOBALAB_CUDA_PATH; none: auto
    std::optional<std::int64_t> shared_memory;  ///< MOBALAB_CUDA_SHARED_MEMORY, beside the device's own limit
    std::optional<ForwardAlgorithm> forward;    ///< MOBALAB_CUDA_FORWARD; none: auto
};

/// From the values of the three variables, null or empty where not set. invalid_argument where they mean nothing.
Status read_path_options(const char* path, const char* shared_memory, const char* forward, PathOptions& options);

/// The path of a device: the one that is asked for, or else Hopper's on 9.0 and the portable one elsewhere.
/// has_hopper_code: whether the library does. unsupported_device where the device or the library cannot run it.
Status choose_path(const PathOptions& options, const Device& device, bool has_hopper_code, CudaPath& path);

/// ok where the current device runs some path of this library.
Status check_device();

/// The path of the current device; where check_device() says no, the one whose limits and workspace a device of the
/// best kind would have.
CudaPath current_path();

/// MOBALAB_CUDA_SHARED_MEMORY, none where it is not set.
std::optional<std::int64_t> asked_shared_memory();

/// MOBALAB_CUDA_FORWARD, none where it is not set or auto.
std::optional<ForwardAlgorithm> asked_forward();

}  // namespace mobalab::kernels::cuda
