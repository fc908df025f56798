#include "kernels/cuda/host/limits.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/cuda/host/score_path.h"
#include "kernels/cuda/lists/lists.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr std::array<std::int64_t, 5> head_dims = {32, 64, 96, 128, 256};
constexpr std::array<std::int64_t, 6> block_sizes = {16, 32, 64, 128, 256, 512};
constexpr std::int64_t most_grid = 65535;      // second and third extent of a grid
constexpr std::int64_t most_lists = 7000;      // per sequence: their tables live in shared memory
constexpr std::int64_t keys_per_list = 128;    // or a block, if that is larger
constexpr std::int64_t most_columns = 0xffff;  // short lists keep the number of a column of scores in 16 bits
static_assert(most_lists * keys_per_list / block_sizes.front() < most_columns);
constexpr std::array<std::int64_t, 5> sub_block_counts = {1, 2, 4, 8, 16};
constexpr std::array<std::int64_t, 4> head_dims_of_ranges = {32, 64, 96, 128};  // two sets of queries in registers
constexpr std::int64_t most_tokens = std::int64_t{1} << 30;  // 32-bit token arithmetic never overflows

template <std::size_t Count>
Status check_one_of(const char* name, std::int64_t value, const std::array<std::int64_t, Count>& valid) {
    if (std::find(valid.begin(), valid.end(), value) != valid.end()) return {};
    const auto nearest = *std::min_element(valid.begin(), valid.end(), [&](std::int64_t a, std::int64_t b) {
        return std::abs(a - value) < std::abs(b - value);
    });
    return {StatusCode::unsupported, fmt::format("{} = {}: backend cuda supports {}; nearest valid choice: {}", name,
                                                 value, fmt::join(valid, ", "), nearest)};
}

Status check_most(const char* name, std::int64_t value, std::int64_t most) {
    if (value <= most) return {};
    return {StatusCode::unsupported, fmt::format("{} = {}: backend cuda supports at most {}; nearest valid choice: {}",
                                                 name, value, most, most)};
}

bool routes(Operation operation) {
    return operation == Operation::route || operation == Operation::route_with_centroids ||
           operation == Operation::moba_forward;
}

bool summarises(Operation operation) {
    return operation == Operation::centroids || operation == Operation::key_conv_centroids;
}

/// A sub-block is a column; those of the longest sequence's last block are never scored.
Status check_columns(const Problem& p) {
    const std::int64_t blocks = most_columns / p.scorer.sub_blocks + 1;
    if (p.longest_blocks() <= blocks) return {};
    return {
        StatusCode::unsupported,
        fmt::format("seqlen_k = {}: backend cuda routes over at most {} blocks of {} sub-blocks (of block_size {}); "
                    "nearest valid choice: {}",
                    p.seqlen_k, blocks, p.scorer.sub_blocks, p.block_size, blocks * p.block_size)};
}

Status check_scorer(Operation operation, const Problem& p) {
    const ScorePath path = score_path(p.scorer);
    const std::string_view name = find_scorer(p.scorer.kind)->name;
    if (path == ScorePath::none) {
        return {StatusCode::unsupported,
                fmt::format("scorer = {}: backend cuda has no kernel for its parts; nearest valid choice: mean", name)};
    }
    if (path == ScorePath::hashes) return {};
    if (Status s = check_one_of("sub_blocks", p.scorer.sub_blocks, sub_block_counts); !s.ok()) return s;
    const bool means = find_scorer(p.scorer.kind)->part[0].summary == Summary::mean;
    if (p.centroids == Centroids::fp32 && !(means && path == ScorePath::products)) {
        return {StatusCode::unsupported,
                fmt::format("centroids = fp32: backend cuda keeps what scorer {} with {} sub-blocks needs in the dtype "
                            "of the keys; nearest valid choice: input_dtype",
                            name, p.scorer.sub_blocks)};
    }
    if (!routes(operation)) return {};
    if (path == ScorePath::ranges) {
        const std::string of_head_dim = fmt::format("scorer {}: head_dim", name);
        if (Status s = check_one_of(of_head_dim.c_str(), p.head_dim, head_dims_of_ranges); !s.ok()) return s;
    }
    return check_columns(p);
}

bool is_conv(Operation operation) {
    return operation == Operation::key_conv_forward || operation == Operation::key_conv_backward;
}

}  // namespace

Status check_limits(Operation operation, const Problem& problem) {
    if (problem.dtype == DataType::fp32) {
        return {StatusCode::unsupported,
                "dtype = fp32: backend cuda supports bf16 and fp16; nearest valid choice: bf16, or backend cpu"};
    }
    if (Status s = check_one_of("head_dim", problem.head_dim, head_dims); !s.ok()) return s;
    if (Status s = check_most("batch", problem.batch, most_grid); !s.ok()) return s;
    if (Status s = check_most("heads_k", problem.heads_k, most_grid); !s.ok()) return s;
    if (Status s = check_most("tokens of k", problem.tokens_k(), most_tokens); !s.ok()) return s;
    if (is_conv(operation)) return {};
    if (Status s = check_one_of("block_size", problem.block_size, block_sizes); !s.ok()) return s;
    if (routes(operation) || summarises(operation)) {
        if (Status s = check_scorer(operation, problem); !s.ok()) return s;
    }
    if (summarises(operation)) return {};
    if (Status s = check_most("heads_q", problem.heads_q, most_grid); !s.ok()) return s;
    if (Status s = check_most("tokens of q", problem.tokens_q(), most_tokens); !s.ok()) return s;
    if (problem.routed() > max_routed_cuda) {
        return {StatusCode::unsupported,
                fmt::format("topk = {}: backend cuda keeps at most {} of the {} blocks; nearest valid choice: {}",
                            problem.topk, max_routed_cuda + 1, problem.longest_blocks(), max_routed_cuda + 1)};
    }
    if (Status s = check_most("seqlen_q", problem.seqlen_q, max_list_queries); !s.ok()) return s;
    return check_most("seqlen_k", problem.seqlen_k, most_lists * std::max(problem.block_size, keys_per_list));
}

Status check_rows_aligned(const char* name, const ConstTensor& tensor) {
    const auto address = reinterpret_cast<std::uintptr_t>(tensor.data);
    if (address % 16 != 0) {
        return {
            StatusCode::invalid_argument,
            fmt::format("{} at address {:#x}: must be aligned to 16 bytes on backend cuda; nearest valid choice: {:#x}",
                        name, address, address + 16 - address % 16)};
    }
    const std::array<std::pair<const char*, std::int64_t>, 3> strides = {{{"stride_batch", tensor.stride_batch},
                                                                          {"stride_token", tensor.stride_token},
                                                                          {"stride_head", tensor.stride_head}}};
    for (const auto& [which, stride] : strides) {
        constexpr std::int64_t elements = 8;  // 16 bytes
        if (stride % elements == 0) continue;
        return {StatusCode::invalid_argument,
                fmt::format("{}.{} = {}: must be a multiple of 8 elements on backend cuda; nearest valid choice: {}",
                            name, which, stride, (stride + elements - 1) / elements * elements)};
    }
    return {};
}

Status check_device() {
    int device = 0;
    if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) {
        cudaGetLastError();  // a machine without a device is no error of later calls
        return {StatusCode::unsupported_device,
                fmt::format("backend cuda: no usable CUDA device ({}); nearest valid choice: cpu",
                            cudaGetErrorString(error))};
    }
    int major = 0, minor = 0;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) {
        return {StatusCode::unsupported_device, "backend cuda: the device does not tell its compute capability"};
    }
    if (major == 9 && minor == 0) return {};
    return {
        StatusCode::unsupported_device,
        fmt::format("backend cuda: device {} has compute capability {}.{}; the kernels are built for 9.0 (H100, H200); "
                    "nearest valid choice: cpu",
                    device, major, minor)};
}

}  // namespace mobalab::kernels::cuda
