#include "kernels/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace mobalab::kernels {
namespace {

/// Which side of the problem an operation reads: centroids and the key convolution never look at the queries.
enum class Side { keys, queries_and_keys };

constexpr std::int64_t max_extent = std::numeric_limits<std::int32_t>::max();  // block numbers and cu_seqlens are int32
constexpr std::int64_t max_elements = std::int64_t{1} << 46;                   // offsets never overflow int64
constexpr std::size_t workspace_alignment = 256;

Status check_range(const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
    if (value >= low && value <= high) return {};
    return invalid(fmt::format("{} = {}: must be in [{}, {}]; nearest valid choice: {}", name, value, low, high,
                               std::clamp(value, low, high)));
}

Status check_least(const char* name, std::int64_t value, std::int64_t least) {
    if (value >= least) return {};
    return invalid(fmt::format("{} = {}: must be at least {}; nearest valid choice: {}", name, value, least, least));
}

struct Extent {
    const char* name;
    std::int64_t value;
};

Status check_volume(const char* name, const std::vector<Extent>& extents) {
    double elements = 1.0;
    std::string product;
    for (const Extent& extent : extents) {
        elements *= static_cast<double>(extent.value);
        product += fmt::format("{}{} {}", product.empty() ? "" : " x ", extent.name, extent.value);
    }
    if (elements <= static_cast<double>(max_elements)) return {};
    return invalid(
        fmt::format("{} has {:.4g} elements ({}): must be at most 2^46; nearest valid choice: split the batch", name,
                    elements, product));
}

Status check_aligned(const char* name, const void* pointer, std::size_t alignment) {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    if (address % alignment == 0) return {};
    return invalid(fmt::format("{} at address {:#x}: must be aligned to {} bytes; nearest valid choice: {:#x}", name,
                               address, alignment, address + alignment - address % alignment));
}

Status check_lengths(const Problem& problem, Side side) {
    if (Status s = check_range("batch", problem.batch, 1, max_extent); !s.ok()) return s;
    if (Status s = check_range("seqlen_k", problem.seqlen_k, 0, max_extent); !s.ok()) return s;
    if (side == Side::keys) return {};
    return check_range("seqlen_q", problem.seqlen_q, 0, max_extent);
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

/// With cu_seqlens: the longest of `batch` sequences cannot be shorter than their mean. (Longer than all of them it may
/// be: it sizes grids and workspace.)
Status check_longest(const char* name, std::int64_t longest, const char* total_name, std::int64_t total,
                     std::int64_t batch) {
    const std::int64_t least = (total + batch - 1) / batch;
    if (longest >= least) return {};
    return invalid(
        fmt::format("{} = {}: must be the longest sequence's length, at least {} with {} = {} in {} "
                    "sequences; nearest valid choice: {}",
                    name, longest, least, total_name, total, batch, least));
}

Status check_totals(const Problem& problem, Side side, bool blocks) {
    if (problem.cu_seqlens_k == nullptr) {
        if (Status s = check_range("batch * seqlen_k", problem.tokens_k(), 0, max_extent); !s.ok()) return s;
        return side == Side::keys ? Status{} : check_range("batch * seqlen_q", problem.tokens_q(), 0, max_extent);
    }
    if (Status s = check_range("total_k", problem.total_k, 0, max_extent); !s.ok()) return s;
    if (Status s = check_longest("seqlen_k", problem.seqlen_k, "total_k", problem.total_k, problem.batch); !s.ok()) {
        return s;
    }
    if (blocks) {
        // ceil(sk / B) summed over sequences; the exact sum needs the contents of cu_seqlens_k.
        const std::int64_t least = (problem.total_k + problem.block_size - 1) / problem.block_size;
        const std::int64_t most = std::min(problem.total_k, least + problem.batch);
        if (Status s = check_range("total_blocks", problem.total_blocks, least, most); !s.ok()) return s;
    }
    if (side == Side::keys) return {};
    if (Status s = check_range("total_q", problem.total_q, 0, max_extent); !s.ok()) return s;
    return check_longest("seqlen_q", problem.seqlen_q, "total_q", problem.total_q, problem.batch);
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
    return check_boundaries("cu_seqlens_q", problem.cu_seqlens_q, problem.batch, problem.seqlen_q, problem.total_q);
}

Status check_volumes(const Problem& p, Side side) {
    const std::int64_t keys = std::max<std::int64_t>(p.tokens_k(), 1);  // the weights of a convolution need no key
    const Extent head_dim = {"head_dim", p.head_dim};
    if (Status s = check_volume("k", {{"tokens", keys}, {"heads", p.heads_k}, head_dim}); !s.ok()) return s;
    if (side == Side::keys) return {};
    const Extent tokens = {"tokens", p.tokens_q()}, heads = {"heads", p.heads_q};
    if (Status s = check_volume("q", {tokens, heads, head_dim}); !s.ok()) return s;
    return check_volume("selection", {tokens, heads, {"slots", p.routed()}});
}

/// "0 (mean), 1 (quest), ...".
std::string scorer_numbers() {
    std::string text;
    for (int number = 0;; ++number) {
        const ScorerDefinition* definition = find_scorer(static_cast<ScorerKind>(number));
        if (definition == nullptr) return text;
        text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", number, definition->name);
    }
}

std::int64_t nearest_divisor(std::int64_t of, std::int64_t to) {
    std::int64_t nearest = 1;
    for (std::int64_t small = 1; small <= of / small; ++small) {
        if (of % small != 0) continue;
        for (const std::int64_t divisor : {small, of / small}) {
            if (std::abs(divisor - to) < std::abs(nearest - to)) nearest = divisor;
        }
    }
    return nearest;
}

/// The scorer, and the size of what it keeps of the keys.
Status check_scorer(const Problem& p) {
    const ScorerDefinition* definition = find_scorer(p.scorer.kind);
    if (definition == nullptr) {
        return invalid(fmt::format("scorer = {}: must be one of {}; nearest valid choice: 0",
                                   static_cast<int>(p.scorer.kind), scorer_numbers()));
    }
    const std::int64_t sub_blocks = p.scorer.sub_blocks;
    if (!definition->divides && sub_blocks != 1) {
        return invalid(
            fmt::format("sub_blocks = {}: must be 1 with scorer {}, which does not divide blocks; nearest valid "
                        "choice: 1",
                        sub_blocks, definition->name));
    }
    if (Status s = check_range("sub_blocks", sub_blocks, 1, p.block_size); !s.ok()) return s;
    if (p.block_size % sub_blocks != 0) {
        return invalid(fmt::format("sub_blocks = {}: must divide block_size = {}; nearest valid choice: {}", sub_blocks,
                                   p.block_size, nearest_divisor(p.block_size, sub_blocks)));
    }
    if (p.centroids == Centroids::centred && (p.scorer.kind != ScorerKind::mean || sub_blocks != 1)) {
        return invalid(
            fmt::format("centroids = centred: must go with scorer mean, not {}; nearest valid choice: "
                        "input_dtype",
                        definition->name));
    }
    return check_volume(
        "centroids",
        {{"parts", definition->parts}, {"sub-blocks", p.sub_blocks()}, {"heads", p.heads_k}, {"head_dim", p.head_dim}});
}

/// Attention alone and the convolution alone look at no scorer.
bool uses_scorer(Operation operation) {
    return operation == Operation::centroids || operation == Operation::key_conv_centroids ||
           operation == Operation::route || operation == Operation::route_with_centroids ||
           operation == Operation::moba_forward || operation == Operation::append_centroids ||
           operation == Operation::decode_route || operation == Operation::moba_decode;
}

/// Operations of decode.h have lengths of their own.
Status check_not_packed(const Problem& p) {
    if (p.cu_seqlens_q == nullptr && p.cu_seqlens_k == nullptr) return {};
    return invalid(
        fmt::format("cu_seqlens_{} is set: must be null where sequences have the lengths of a cache; nearest valid "
                    "choice: null",
                    p.cu_seqlens_q != nullptr ? 'q' : 'k'));
}

/// Blocks behind its queries a step has not.
Status check_step(Operation operation, const Problem& p) {
    if (operation == Operation::append_centroids) return {};
    if (p.causal) return {};
    return invalid("causal = false: must be true in a step over a cache; nearest valid choice: true");
}

Status check_lengths_of_cache(const Problem& p, const std::int32_t* lengths) {
    for (std::int64_t b = 0; b < p.batch; ++b) {
        if (lengths[b] >= 0 && lengths[b] <= p.seqlen_k) continue;
        return invalid(
            fmt::format("lengths[{}] = {}: must be in [0, {}], what a sequence may grow to; nearest valid choice: {}",
                        b, lengths[b], p.seqlen_k, std::clamp<std::int64_t>(lengths[b], 0, p.seqlen_k)));
    }
    return {};
}

/// The size of the tensor of keys, or values, of a cache in pages.
Status check_pages(const Problem& p, const Cache& cache, const Extent& row) {
    const Extent pages = {"pages", cache.pages}, page_size = {"page_size", cache.page_size};
    return check_volume("the cache", {pages, page_size, {"heads", p.heads_k}, row});
}

/// Pages that hold keys.
Status check_block_table(const Problem& p, const Cache& cache) {
    const std::int64_t columns = cache.pages_per_sequence(p.seqlen_k);
    for (std::int64_t b = 0; b < p.batch; ++b) {
        for (std::int64_t i = 0; i < (cache.lengths[b] + cache.page_size - 1) / cache.page_size; ++i) {
            const std::int64_t page = cache.block_table[b * columns + i];
            if (page >= 0 && page < cache.pages) continue;
            if (cache.pages == 0) {
                return invalid(
                    fmt::format("block_table[{}][{}] = {}: must name a page of the cache, which has none; nearest "
                                "valid choice: lengths of 0",
                                b, i, page));
            }
            return invalid(fmt::format("block_table[{}][{}] = {}: must be in [0, {}]; nearest valid choice: {}", b, i,
                                       page, cache.pages - 1, std::clamp<std::int64_t>(page, 0, cache.pages - 1)));
        }
    }
    return {};
}

/// The width of values, and the size of their tensors.
Status check_values(const Problem& p) {
    if (Status s = check_range("head_dim_v", p.head_dim_v, 0, max_extent); !s.ok()) return s;
    const std::int64_t keys = std::max<std::int64_t>(p.tokens_k(), 1);
    const Extent head_dim = {"head_dim_v", p.value_dim()};
    if (Status s = check_volume("v", {{"tokens", keys}, {"heads", p.heads_k}, head_dim}); !s.ok()) return s;
    return check_volume("out", {{"tokens", p.tokens_q()}, {"heads", p.heads_q}, head_dim});
}

Status check_scale(const Problem& p) {
    if (!p.scale.has_value() || (*p.scale >= min_scale && *p.scale <= max_scale)) return {};
    const bool small = *p.scale > 0.0 && *p.scale < min_scale;
    return invalid(fmt::format("scale = {}: must be in [{}, {}]; nearest valid choice: {}", *p.scale, min_scale,
                               max_scale, small ? min_scale : default_scale(p.head_dim)));
}

bool is_conv(Operation operation) {
    return operation == Operation::key_conv_forward || operation == Operation::key_conv_backward;
}

Side side_of(Operation operation) {
    const bool keys = is_conv(operation) || operation == Operation::centroids ||
                      operation == Operation::key_conv_centroids || operation == Operation::append_centroids;
    return keys ? Side::keys : Side::queries_and_keys;
}

/// A pointer the operation reads or writes; `count` elements behind it (null is fine where that is 0).
Status check_memory(const char* name, const void* pointer, std::int64_t count, std::size_t element_bytes) {
    if (count == 0) return {};
    if (pointer == nullptr) {
        return invalid(
            fmt::format("{} is null: must point to {} elements; nearest valid choice: allocate them", name, count));
    }
    return check_aligned(name, pointer, element_bytes);
}

/// Fills in one stride. Extents of at most 1 have no use for it and get the contiguous one.
Status resolve_stride(const char* name, const char* which, std::int64_t extent, std::int64_t when_contiguous,
                      std::int64_t& stride) {
    if (extent <= 1 || stride == contiguous) stride = when_contiguous;
    if (extent <= 1) return {};
    if (stride < 0) {
        return invalid(fmt::format("{}.{} = {}: must be at least 0, or `contiguous`; nearest valid choice: 0", name,
                                   which, stride));
    }
    const std::int64_t most = max_elements / (extent - 1);
    if (stride <= most) return {};
    return invalid(fmt::format("{}.{} = {}: an extent of {} must span at most 2^46 elements; nearest valid choice: {}",
                               name, which, stride, extent, most));
}

template <typename Pointer>
Status resolve_strides(const char* name, const Shape& shape, BasicTensor<Pointer>& tensor) {
    const std::int64_t row = shape.head_dim, token = shape.heads * shape.head_dim;
    if (Status s = resolve_stride(name, "stride_head", shape.heads, row, tensor.stride_head); !s.ok()) return s;
    if (Status s = resolve_stride(name, "stride_token", shape.tokens, token, tensor.stride_token); !s.ok()) return s;
    const std::int64_t sequence = shape.tokens * tensor.stride_token;
    return resolve_stride(name, "stride_batch", shape.batch, sequence, tensor.stride_batch);
}

Status overlapping_rows(const char* name, const Shape& shape, const Footprint& footprint) {
    const std::int64_t token = shape.heads * shape.head_dim;
    return invalid(fmt::format(
        "{} has strides [{}, {}, {}] for [batch {}, tokens {}, heads {}] rows of {} elements: rows of a tensor that "
        "is written must not overlap; nearest valid choice: [{}, {}, {}] (contiguous)",
        name, footprint.dimensions[0].stride, footprint.dimensions[1].stride, footprint.dimensions[2].stride,
        shape.batch, shape.tokens, shape.heads, shape.head_dim, shape.tokens * token, token, shape.head_dim));
}

}  // namespace

bool attends(Operation operation) {
    return operation == Operation::attention_forward || operation == Operation::moba_forward ||
           operation == Operation::attention_backward || operation == Operation::decode_attention ||
           operation == Operation::moba_decode;
}

bool decodes(Operation operation) {
    return operation == Operation::append_centroids || operation == Operation::decode_route ||
           operation == Operation::decode_attention || operation == Operation::moba_decode;
}

double default_scale(std::int64_t head_dim) {
    return 1.0 / std::sqrt(static_cast<double>(head_dim));
}

Status check_problem(Operation operation, const Problem& problem, bool host_memory) {
    if (decodes(operation)) {
        if (Status s = check_not_packed(problem); !s.ok()) return s;
        if (Status s = check_step(operation, problem); !s.ok()) return s;
    }
    const Side side = side_of(operation);
    const bool blocks = !is_conv(operation);
    if (Status s = check_lengths(problem, side); !s.ok()) return s;
    if (Status s = check_heads(problem, side); !s.ok()) return s;
    if (Status s = check_range("head_dim", problem.head_dim, 1, max_extent); !s.ok()) return s;
    if (blocks) {
        if (Status s = check_range("block_size", problem.block_size, 1, max_extent); !s.ok()) return s;
    }
    if (side == Side::queries_and_keys) {
        if (Status s = check_least("topk", problem.topk, 1); !s.ok()) return s;
        if (Status s = check_both_or_neither(problem); !s.ok()) return s;
    }
    if (Status s = check_totals(problem, side, blocks); !s.ok()) return s;
    if (Status s = check_volumes(problem, side); !s.ok()) return s;
    if (uses_scorer(operation)) {
        if (Status s = check_scorer(problem); !s.ok()) return s;
    }
    if (attends(operation)) {
        if (Status s = check_values(problem); !s.ok()) return s;
        if (Status s = check_scale(problem); !s.ok()) return s;
    }
    if (problem.cu_seqlens_k == nullptr) return {};
    if (Status s = check_aligned("cu_seqlens_k", problem.cu_seqlens_k, sizeof(std::int32_t)); !s.ok()) return s;
    if (side == Side::queries_and_keys) {
        if (Status s = check_aligned("cu_seqlens_q", problem.cu_seqlens_q, sizeof(std::int32_t)); !s.ok()) return s;
    }
    if (!host_memory) return {};
    return check_boundary_contents(problem, side, blocks);
}

Status check_cache(Operation operation, const Problem& problem, const Cache& cache, bool host_memory) {
    if (cache.block_table != nullptr) {
        if (Status s = check_range("page_size", cache.page_size, 1, max_extent); !s.ok()) return s;
        if (Status s = check_range("pages", cache.pages, 0, max_extent); !s.ok()) return s;
        if (Status s = check_pages(problem, cache, {"head_dim", problem.head_dim}); !s.ok()) return s;
        if (attends(operation)) {
            if (Status s = check_pages(problem, cache, {"head_dim_v", problem.value_dim()}); !s.ok()) return s;
        }
    }
    if (!host_memory || cache.lengths == nullptr) return {};
    for (const auto& [name, array] :
         {std::pair("lengths", cache.lengths), std::pair("block_table", cache.block_table)}) {
        if (Status s = check_aligned(name, array, sizeof(std::int32_t)); !s.ok()) return s;
    }
    if (Status s = check_lengths_of_cache(problem, cache.lengths); !s.ok()) return s;
    return cache.block_table == nullptr ? Status{} : check_block_table(problem, cache);
}

Shape Arguments::query_shape(std::int64_t row) const {
    const Problem& p = problem_;
    const bool packed = p.cu_seqlens_q != nullptr;
    return {packed ? 1 : p.batch, packed ? p.total_q : p.seqlen_q, p.heads_q, row};
}

Shape Arguments::key_shape(std::int64_t row) const {
    const Problem& p = problem_;
    const bool packed = p.cu_seqlens_k != nullptr;
    return {packed ? 1 : p.batch, packed ? p.total_k : p.seqlen_k, p.heads_k, row};
}

Shape Arguments::cache_shape(const Cache& cache, std::int64_t row) const {
    const Problem& p = problem_;
    const bool paged = cache.block_table != nullptr;
    return {paged ? cache.pages : p.batch, paged ? cache.page_size : p.seqlen_k, p.heads_k, row};
}

template <typename Pointer>
Arguments& Arguments::queries(const char* name, BasicTensor<Pointer>& tensor) {
    return this->tensor(name, query_shape(problem_.head_dim), tensor);
}

template <typename Pointer>
Arguments& Arguments::keys(const char* name, BasicTensor<Pointer>& tensor) {
    return this->tensor(name, key_shape(problem_.head_dim), tensor);
}

template <typename Pointer>
Arguments& Arguments::outputs(const char* name, BasicTensor<Pointer>& tensor) {
    return this->tensor(name, query_shape(problem_.value_dim()), tensor);
}

template <typename Pointer>
Arguments& Arguments::values(const char* name, BasicTensor<Pointer>& tensor) {
    return this->tensor(name, key_shape(problem_.value_dim()), tensor);
}

template Arguments& Arguments::queries(const char*, Tensor&);
template Arguments& Arguments::queries(const char*, ConstTensor&);
template Arguments& Arguments::keys(const char*, Tensor&);
template Arguments& Arguments::keys(const char*, ConstTensor&);
template Arguments& Arguments::outputs(const char*, Tensor&);
template Arguments& Arguments::outputs(const char*, ConstTensor&);
template Arguments& Arguments::values(const char*, Tensor&);
template Arguments& Arguments::values(const char*, ConstTensor&);

Arguments::Arguments(const Problem& problem, const Execution& execution, std::size_t workspace_bytes)
    : problem_(problem) {
    if (workspace_bytes == 0) return;
    footprints_.push_back({"workspace", execution.workspace, 1, static_cast<std::int64_t>(workspace_bytes), {}, true});
}

template <typename Pointer>
Arguments& Arguments::tensor(const char* name, const Shape& shape, BasicTensor<Pointer>& tensor) {
    if (!status_.ok()) return *this;
    status_ = check_memory(name, tensor.data, shape.rows() * shape.head_dim, size_of(problem_.dtype));
    if (status_.ok()) status_ = resolve_strides(name, shape, tensor);
    if (!status_.ok()) return *this;
    Footprint footprint;
    footprint.name = name;
    footprint.data = tensor.data;
    footprint.element_bytes = static_cast<std::int64_t>(size_of(problem_.dtype));
    footprint.row = shape.head_dim;
    footprint.dimensions = {
        {{shape.batch, tensor.stride_batch}, {shape.tokens, tensor.stride_token}, {shape.heads, tensor.stride_head}}};
    footprint.written = !std::is_const_v<std::remove_pointer_t<Pointer>>;
    if (footprint.written && rows_overlap(footprint)) status_ = overlapping_rows(name, shape, footprint);
    footprints_.push_back(footprint);
    return *this;
}

Arguments& Arguments::array(const char* name, const void* data, std::int64_t count, std::size_t element_bytes,
                            bool written) {
    if (status_.ok()) status_ = check_memory(name, data, count, element_bytes);
    footprints_.push_back({name, data, static_cast<std::int64_t>(element_bytes), count, {}, written});
    return *this;
}

Arguments& Arguments::cached_keys(const char* name, const Cache& cache, ConstTensor& tensor) {
    return this->tensor(name, cache_shape(cache, problem_.head_dim), tensor);
}

Arguments& Arguments::cached_values(const char* name, const Cache& cache, ConstTensor& tensor) {
    return this->tensor(name, cache_shape(cache, problem_.value_dim()), tensor);
}

Arguments& Arguments::cache(const Cache& cache) {
    read("lengths", cache.lengths, problem_.batch);
    if (cache.block_table == nullptr) return *this;
    return read("block_table", cache.block_table, problem_.batch * cache.pages_per_sequence(problem_.seqlen_k));
}

Arguments& Arguments::centroids(const void* data, bool written) {
    return array("centroids", data, problem_.centroid_elements(), size_of(problem_.centroid_dtype()), written);
}

Arguments& Arguments::selection(const std::int32_t* data, bool written) {
    const std::int64_t count = problem_.tokens_q() * problem_.heads_q * problem_.routed();
    return array("selection", data, count, sizeof(std::int32_t), written);
}

Arguments& Arguments::lse(const float* data, bool written) {
    return array("lse", data, problem_.tokens_q() * problem_.heads_q, sizeof(float), written);
}

Arguments& Arguments::weight(const float* data, int width) {
    if (status_.ok()) status_ = check_range("width", width, min_conv_width, max_conv_width);
    if (!status_.ok()) return *this;
    return array("weight", data, problem_.heads_k * problem_.head_dim * width, sizeof(float), false);
}

Arguments& Arguments::d_weight(float* data, int width) {
    if (!status_.ok()) return *this;
    return array("d_weight", data, problem_.heads_k * problem_.head_dim * width, sizeof(float), true);
}

Status Arguments::check_disjoint() const {
    for (std::size_t i = 0; i < footprints_.size(); ++i) {
        for (std::size_t j = i + 1; j < footprints_.size(); ++j) {
            const Footprint& a = footprints_[i];
            const Footprint& b = footprints_[j];
            if ((!a.written && !b.written) || !overlap(a, b)) continue;
            const Footprint& out = b.written ? b : a;
            const Footprint& other = b.written ? a : b;
            return invalid(
                fmt::format("{} at {} overlaps {} at {}: what is written must not share memory with another argument "
                            "(tensors in one range of addresses need the same strides); nearest valid choice: memory "
                            "of its own for {}",
                            out.name, out.data, other.name, other.data, out.name));
        }
    }
    return {};
}

Status Arguments::status() const {
    return status_.ok() ? check_disjoint() : status_;
}

Status check_execution(const Execution& execution, std::size_t workspace_needed) {
    if (execution.threads < 0 || execution.threads > max_threads) {
        return invalid(
            fmt::format("threads = {}: must be in [0, {}] (0: all hardware threads); nearest valid choice: {}",
                        execution.threads, max_threads, std::clamp(execution.threads, 0, max_threads)));
    }
    if (workspace_needed == 0) return {};
    if (execution.workspace_bytes < workspace_needed || execution.workspace == nullptr) {
        return {StatusCode::workspace_too_small,
                fmt::format("workspace of {} bytes: must hold workspace_size() = {}; nearest valid choice: {}",
                            execution.workspace == nullptr ? 0 : execution.workspace_bytes, workspace_needed,
                            workspace_needed)};
    }
    return check_aligned("workspace", execution.workspace, workspace_alignment);
}

}  // namespace mobalab::kernels
