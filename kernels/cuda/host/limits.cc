#include "kernels/cuda/host/limits.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/check.h"
#include "kernels/cuda/host/score_path.h"
#include "kernels/cuda/lists/lists.h"
#include "kernels/decode.h"

namespace mobalab::kernels::cuda {
namespace {

constexpr std::int64_t head_dim_step = 8, widest_head_dim = 256;  // rows are read in pieces of 16 bytes
constexpr std::int64_t largest_block = 16384;
constexpr std::int64_t most_grid = 65535;      // second and third extent of a grid
constexpr std::int64_t most_columns = 0xffff;  // short lists keep the number of a column of scores in 16 bits
constexpr std::array<std::int64_t, 5> sub_block_counts = {1, 2, 4, 8, 16};
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

Status check_head_dim(const std::string& name, std::int64_t value, std::int64_t widest) {
    if (value % head_dim_step == 0 && value <= widest) return {};
    const std::int64_t nearest = std::min((value + head_dim_step / 2) / head_dim_step * head_dim_step, widest);
    return {StatusCode::unsupported,
            fmt::format("{} = {}: backend cuda supports multiples of {} up to {}; nearest valid choice: {}", name,
                        value, head_dim_step, widest, std::max(nearest, head_dim_step))};
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
    return operation == Operation::centroids || operation == Operation::key_conv_centroids ||
           operation == Operation::append_centroids;
}

/// Steps of decode.h with queries, whose rows are numbered in 32 bits.
bool steps(Operation operation) {
    return decodes(operation) && operation != Operation::append_centroids;
}

Status check_decode_rows(const Problem& p) {
    constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
    const std::int64_t of_sequence = std::max<std::int64_t>(p.seqlen_q * p.heads_q, 1);
    if (p.batch <= most / of_sequence) return {};
    return {StatusCode::unsupported,
            fmt::format("batch = {}: backend cuda decodes at most {} sequences of seqlen_q = {}, heads_q = {} at once; "
                        "nearest valid choice: {}",
                        p.batch, most / of_sequence, p.seqlen_q, p.heads_q, most / of_sequence)};
}

/// A sub-block is a column; those of a causal problem's longest sequence's last block are never scored.
Status check_columns(const Problem& p) {
    const std::int64_t blocks = most_columns / p.scorer.sub_blocks + (p.causal ? 1 : 0);
    if (p.longest_blocks() <= blocks) return {};
    return {
        StatusCode::unsupported,
        fmt::format("seqlen_k = {}: backend cuda routes over at most {} blocks of {} sub-blocks (of block_size {}); "
                    "nearest valid choice: {}",
                    p.seqlen_k, blocks, p.scorer.sub_blocks, p.block_size, blocks * p.block_size)};
}

/// Those of a sequence, whose numbers lists and scores keep in 16 bits; the last one is never a candidate.
Status check_blocks(const Problem& p) {
    if (p.longest_blocks() <= most_columns + 1) return {};
    const std::int64_t keys = (most_columns + 1) * p.block_size;
    return {
        StatusCode::unsupported,
        fmt::format("seqlen_k = {}: backend cuda takes at most {} blocks a sequence (of block_size {}); nearest valid "
                    "choice: {}",
                    p.seqlen_k, most_columns + 1, p.block_size, keys)};
}

/// A pass over the keys has at most a thread block for each block, sequence and head, numbered in 32 bits.
Status check_pooling(const Problem& p) {
    constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
    const std::int64_t of_sequence = std::max<std::int64_t>(p.longest_blocks() * p.scorer.sub_blocks * p.heads_k, 1);
    if (p.batch <= most / of_sequence) return {};
    return {
        StatusCode::unsupported,
        fmt::format("batch = {}: backend cuda pools at most {} sequences of seqlen_k = {}, block_size = {}, heads_k = "
                    "{}; nearest valid choice: {}",
                    p.batch, most / of_sequence, p.seqlen_k, p.block_size, p.heads_k, most / of_sequence)};
}

Status check_scorer(Operation operation, const Problem& p) {
    const ScorePath path = score_path(p.scorer);
    const std::string_view name = find_scorer(p.scorer.kind)->name;
    if (path == ScorePath::none) {
        return {StatusCode::unsupported,
                fmt::format("scorer = {}: backend cuda has no kernel for its parts; nearest valid choice: mean", name)};
    }
    if (path == ScorePath::hashes) return routes(operation) && !p.causal ? check_columns(p) : Status{};
    if (Status s = check_one_of("sub_blocks", p.scorer.sub_blocks, sub_block_counts); !s.ok()) return s;
    const bool means = find_scorer(p.scorer.kind)->part[0].summary == Summary::mean;
    if (p.centroids == Centroids::fp32 && !(means && path == ScorePath::products)) {
        return {StatusCode::unsupported,
                fmt::format("centroids = fp32: backend cuda keeps what scorer {} with {} sub-blocks needs in the dtype "
                            "of the keys; nearest valid choice: input_dtype",
                            name, p.scorer.sub_blocks)};
    }
    return routes(operation) ? check_columns(p) : Status{};
}

/// Scores are scaled inside an fma against their rounded maximum, whose rounding must stay far below 2^127.
constexpr double largest_scale = 65536.0;

Status check_scale(const Problem& p) {
    if (p.softmax_scale() <= largest_scale) return {};
    return {StatusCode::unsupported,
            fmt::format("scale = {}: backend cuda supports at most {}; nearest valid choice: {}", p.softmax_scale(),
                        largest_scale, largest_scale)};
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
    if (Status s = check_head_dim("head_dim", problem.head_dim, widest_head_dim); !s.ok()) return s;
    if (Status s = check_most("batch", problem.batch, most_grid); !s.ok()) return s;
    if (Status s = check_most("heads_k", problem.heads_k, most_grid); !s.ok()) return s;
    if (Status s = check_most("tokens of k", problem.tokens_k(), most_tokens); !s.ok()) return s;
    if (is_conv(operation)) return {};
    if (Status s = check_most("block_size", problem.block_size, largest_block); !s.ok()) return s;
    if (routes(operation) || summarises(operation) || operation == Operation::decode_route ||
        operation == Operation::moba_decode) {
        if (Status s = check_scorer(operation, problem); !s.ok()) return s;
    }
    if (Status s = check_blocks(problem); !s.ok()) return s;
    if (summarises(operation) || routes(operation) || operation == Operation::moba_decode) {
        if (Status s = check_pooling(problem); !s.ok()) return s;
    }
    if (summarises(operation)) return {};
    if (Status s = check_most("heads_q", problem.heads_q, most_grid); !s.ok()) return s;
    if (Status s = check_most("tokens of q", problem.tokens_q(), most_tokens); !s.ok()) return s;
    if (steps(operation)) {
        if (Status s = check_decode_rows(problem); !s.ok()) return s;
    }
    if (problem.routed() > max_routed_cuda) {
        const std::int64_t most = max_routed_cuda + (problem.causal ? 1 : 0);
        return {StatusCode::unsupported,
                fmt::format("topk = {}: backend cuda keeps at most {} of the {} blocks; nearest valid choice: {}",
                            problem.topk, most, problem.longest_blocks(), most)};
    }
    if (Status s = check_most("seqlen_q", problem.seqlen_q, max_list_queries); !s.ok()) return s;
    if (attends(operation)) {
        if (Status s = check_head_dim("head_dim_v", problem.value_dim(), widest_head_dim); !s.ok()) return s;
        if (Status s = check_scale(problem); !s.ok()) return s;
    }
    return {};
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

}  // namespace mobalab::kernels::cuda
