#include "kernels/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>

namespace mobalab::kernels {
namespace {

/// Which side of the problem an operation reads: centroids and the key convolution never look at the queries.
enum class Side { keys, queries_and_keys };

constexpr std::int64_t max_topk = 64;
constexpr std::int64_t max_extent = std::numeric_limits<std::int32_t>::max();  // block numbers and cu_seqlens are int32
constexpr std::int64_t max_elements = std::int64_t{1} << 46;                   // offsets never overflow int64
constexpr std::uintptr_t workspace_alignment = 256;

Status check_range(const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
    if (value >= low && value <= high) return {};
    return invalid(fmt::format("{} = {}: must be in [{}, {}]; nearest valid choice: {}", name, value, low, high,
                               std::clamp(value, low, high)));
}

Status check_volume(const char* name, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim) {
    const double elements = static_cast<double>(tokens) * static_cast<double>(heads) * static_cast<double>(head_dim);
    if (elements <= static_cast<double>(max_elements)) return {};
    return invalid(
        fmt::format("{} has {:.4g} elements (tokens {} x heads {} x head_dim {}): must be at most 2^46; "
                    "nearest valid choice: split the batch",
                    name, elements, tokens, heads, head_dim));
}

Status check_lengths(const Problem& problem, Side side) {
    if (Status s = check_range("batch", problem.batch, 1, max_extent); !s.ok()) return s;
    if (Status s = check_range("seqlen_k", problem.seqlen_k, 0, max_extent); !s.ok()) return s;
    if (side == Side::keys) return {};
    if (Status s = check_range("seqlen_q", problem.seqlen_q, 0, max_extent); !s.ok()) return s;
    if (problem.seqlen_q <= problem.seqlen_k) return {};
    return invalid(
        fmt::format("seqlen_q = {}: must be at most seqlen_k = {} (rows are bottom-right aligned); nearest "
                    "valid choice: {}",
                    problem.seqlen_q, problem.seqlen_k, problem.seqlen_k));
}

Status check_heads(const Problem& problem, Side side) {
    if (Status s = check_range("heads_k", problem.heads_k, 1, max_extent); !s.ok()) return s;
    if (side == Side::keys) return {};
    if (Status s = check_range("heads_q", problem.heads_q, 1, max_extent); !s.ok()) return s;
    if (problem.heads_q % problem.heads_k == 0) return {};
    const std::int64_t group = std::max<std::int64_t>(1, (problem.heads_q + problem.heads_k / 2) / problem.heads_k);
    return invalid(fmt::format("heads_q = {}: must be a multiple of heads_k = {}; nearest valid choice: {}",
                               problem.heads_q, problem.heads_k, group * problem.heads_k));
}

Status check_totals(const Problem& problem, Side side, bool blocks) {
    if (problem.cu_seqlens_k == nullptr) {
        return check_range("batch * seqlen_k", problem.tokens_k(), 0, max_extent);
    }
    if (Status s = check_range("total_k", problem.total_k, 0, max_extent); !s.ok()) return s;
    if (blocks) {
        // ceil(sk / B) summed over sequences; the exact sum needs the contents of cu_seqlens_k.
        const std::int64_t least = (problem.total_k + problem.block_size - 1) / problem.block_size;
        const std::int64_t most = std::min(problem.total_k, least + problem.batch);
        if (Status s = check_range("total_blocks", problem.total_blocks, least, most); !s.ok()) return s;
    }
    if (side == Side::keys) return {};
    return check_range("total_q", problem.total_q, 0, problem.total_k);
}

Status check_both_or_neither(const Problem& problem) {
    if ((problem.cu_seqlens_q == nullptr) == (problem.cu_seqlens_k == nullptr)) return {};
    const bool has_q = problem.cu_seqlens_q != nullptr;
    return invalid(
        fmt::format("cu_seqlens_{} is set and cu_seqlens_{} is null: give both or neither; nearest valid "
                    "choice: set cu_seqlens_{}",
                    has_q ? 'q' : 'k', has_q ? 'k' : 'q', has_q ? 'k' : 'q'));
}

/// Starts at 0, never falls, no sequence longer than `longest`, ends at `total`.
Status check_boundaries(const char* name, const std::int32_t* cu, std::int64_t batch, std::int64_t longest,
                        std::int64_t total) {
    if (cu[0] != 0) return invalid(fmt::format("{}[0] = {}: must be 0; nearest valid choice: 0", name, cu[0]));
    for (std::int64_t b = 0; b < batch; ++b) {
        const std::int64_t length = static_cast<std::int64_t>(cu[b + 1]) - cu[b];
        if (length < 0) {
            return invalid(fmt::format("{}[{}] = {}: must not fall below {}[{}] = {}; nearest valid choice: {}", name,
                                       b + 1, cu[b + 1], name, b, cu[b], cu[b]));
        }
        if (length > longest) {
            return invalid(
                fmt::format("{}: sequence {} has {} tokens: must be at most the problem's longest sequence "
                            "({}); nearest valid choice: raise seqlen to {}",
                            name, b, length, longest, length));
        }
    }
    if (cu[batch] == total) return {};
    return invalid(fmt::format("{}[{}] = {}: must equal the problem's total of {}; nearest valid choice: {}", name,
                               batch, cu[batch], total, total));
}

Status check_boundary_contents(const Problem& problem, Side side, bool blocks) {
    const std::int32_t* cu_k = problem.cu_seqlens_k;
    if (Status s = check_boundaries("cu_seqlens_k", cu_k, problem.batch, problem.seqlen_k, problem.total_k); !s.ok()) {
        return s;
    }
    std::int64_t sum = 0;
    for (std::int64_t b = 0; b < problem.batch && blocks; ++b) {
        sum += (cu_k[b + 1] - cu_k[b] + problem.block_size - 1) / problem.block_size;
    }
    if (blocks && sum != problem.total_blocks) {
        return invalid(
            fmt::format("total_blocks = {}: must be the sum of ceil(seqlen / block_size) over sequences; "
                        "nearest valid choice: {}",
                        problem.total_blocks, sum));
    }
    if (side == Side::keys) return {};
    const std::int32_t* cu_q = problem.cu_seqlens_q;
    if (Status s = check_boundaries("cu_seqlens_q", cu_q, problem.batch, problem.seqlen_q, problem.total_q); !s.ok()) {
        return s;
    }
    for (std::int64_t b = 0; b < problem.batch; ++b) {
        const std::int32_t sq = cu_q[b + 1] - cu_q[b];
        const std::int32_t sk = cu_k[b + 1] - cu_k[b];
        if (sq > sk) {
            return invalid(
                fmt::format("sequence {} has {} queries: must have at most as many as its {} keys; nearest "
                            "valid choice: {}",
                            b, sq, sk, sk));
        }
    }
    return {};
}

bool is_conv(Operation operation) {
    return operation == Operation::key_conv_forward || operation == Operation::key_conv_backward;
}

Side side_of(Operation operation) {
    const bool keys =
        is_conv(operation) || operation == Operation::centroids || operation == Operation::key_conv_centroids;
    return keys ? Side::keys : Side::queries_and_keys;
}

}  // namespace

Status check_problem(Operation operation, const Problem& problem, bool host_memory) {
    const Side side = side_of(operation);
    const bool blocks = !is_conv(operation);
    if (Status s = check_lengths(problem, side); !s.ok()) return s;
    if (Status s = check_heads(problem, side); !s.ok()) return s;
    if (Status s = check_range("head_dim", problem.head_dim, 1, max_extent); !s.ok()) return s;
    if (blocks) {
        if (Status s = check_range("block_size", problem.block_size, 1, max_extent); !s.ok()) return s;
    }
    if (side == Side::queries_and_keys) {
        if (Status s = check_range("topk", problem.topk, 1, max_topk); !s.ok()) return s;
        if (Status s = check_both_or_neither(problem); !s.ok()) return s;
    }
    if (Status s = check_totals(problem, side, blocks); !s.ok()) return s;
    if (Status s = check_volume("k", problem.tokens_k(), problem.heads_k, problem.head_dim); !s.ok()) return s;
    if (side == Side::queries_and_keys) {
        if (Status s = check_volume("q", problem.tokens_q(), problem.heads_q, problem.head_dim); !s.ok()) return s;
    }
    if (problem.cu_seqlens_k == nullptr || !host_memory) return {};
    return check_boundary_contents(problem, side, blocks);
}

Status check_pointer(const char* name, const void* pointer, std::int64_t count) {
    if (pointer != nullptr || count == 0) return {};
    return invalid(
        fmt::format("{} is null: must point to {} elements; nearest valid choice: allocate them", name, count));
}

template <typename Pointer>
Status resolve_tensor(const char* name, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim,
                      BasicTensor<Pointer>& tensor) {
    if (tensor.stride_token == 0) tensor.stride_token = heads * head_dim;
    if (tensor.stride_head == 0) tensor.stride_head = head_dim;
    if (Status s = check_pointer(name, tensor.data, tokens * heads * head_dim); !s.ok()) return s;
    for (const std::int64_t stride : {tensor.stride_token, tensor.stride_head}) {
        if (stride >= head_dim && stride <= max_elements) continue;
        return invalid(
            fmt::format("{} has a stride of {}: must be 0 (contiguous) or in [head_dim = {}, 2^46] so that "
                        "rows do not overlap; nearest valid choice: {}",
                        name, stride, head_dim, head_dim));
    }
    return {};
}

template Status resolve_tensor(const char*, std::int64_t, std::int64_t, std::int64_t, Tensor&);
template Status resolve_tensor(const char*, std::int64_t, std::int64_t, std::int64_t, ConstTensor&);

Status check_conv_width(int width) {
    return check_range("width", width, min_conv_width, max_conv_width);
}

Status check_execution(const Execution& execution, std::size_t workspace_needed) {
    if (execution.threads < 0) {
        return invalid(fmt::format(
            "threads = {}: must be at least 0 (0: all hardware threads); nearest valid choice: 0", execution.threads));
    }
    if (workspace_needed == 0) return {};
    if (execution.workspace_bytes < workspace_needed || execution.workspace == nullptr) {
        return {StatusCode::workspace_too_small,
                fmt::format("workspace of {} bytes: must hold workspace_size() = {}; nearest valid choice: {}",
                            execution.workspace == nullptr ? 0 : execution.workspace_bytes, workspace_needed,
                            workspace_needed)};
    }
    const auto address = reinterpret_cast<std::uintptr_t>(execution.workspace);
    if (address % workspace_alignment == 0) return {};
    return invalid(fmt::format("workspace at address {:#x}: must be aligned to {} bytes; nearest valid choice: {:#x}",
                               address, workspace_alignment,
                               address + workspace_alignment - address % workspace_alignment));
}

}  // namespace mobalab::kernels
