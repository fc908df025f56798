#include "experiments/measure/kernel_head.h"

#include <algorithm>
#include <cmath>

#include "experiments/base/check.h"
#include "experiments/measure/router.h"

namespace mobalab::experiments {
namespace {

using kernels::DataType;

/// The factor that makes the kernels' scale, head_dim^-1/2, the head's.
float query_factor(const HeadTensors& head) {
    return static_cast<float>(head.scale * std::sqrt(static_cast<double>(head.q.head_dim)));
}

/// Attention takes values as wide as the keys: columns of others go in as many parts.
std::vector<std::vector<float>> in_parts(const HeadRows& v, std::int64_t width) {
    const std::vector<float> all = v.to_float();
    std::vector<std::vector<float>> parts;
    for (std::int64_t first = 0; first < v.head_dim; first += width) {
        std::vector<float>& part = parts.emplace_back(static_cast<std::size_t>(v.rows * width));
        const std::int64_t count = std::min(width, v.head_dim - first);
        for (std::int64_t row = 0; row < v.rows; ++row) {
            std::copy_n(all.begin() + row * v.head_dim + first, count, part.begin() + row * width);
        }
    }
    return parts;
}

FloatRows in_fp32(const std::vector<std::byte>& elements, DataType dtype, std::int64_t rows, std::int64_t columns) {
    const std::vector<float> values =
        HeadRows{.dtype = dtype, .rows = rows, .head_dim = columns, .bytes = elements}.to_float();
    return Eigen::Map<const FloatRows>(values.data(), rows, columns);
}

}  // namespace

KernelHead::KernelHead(const HeadTensors& head, std::uint64_t seed, int threads)
    : head_(head), seed_(seed), execution_{.threads = threads} {
    if (head.v.rows > 0) {
        k_ = head.k.to_float();
        q_ = head.q.to_float();
        const float factor = query_factor(head);
        std::transform(q_.begin(), q_.end(), q_.begin(), [factor](float value) { return value * factor; });
        values_ = in_parts(head.v, head.k.head_dim);
    }
}

kernels::Problem KernelHead::problem(std::int64_t block_size, std::int64_t topk) const {
    kernels::Problem problem;
    problem.seqlen_q = head_.q.rows;
    problem.seqlen_k = head_.q_start + head_.q.rows;
    problem.head_dim = head_.q.head_dim;
    problem.block_size = block_size;
    problem.topk = topk;
    return problem;
}

kernels::Problem KernelHead::problem(const ScoreSetting& setting, std::int64_t topk) const {
    kernels::Problem routed = problem(setting.block_size, topk);
    const Router& router = *find_router(setting.router);
    routed.dtype = head_.q.dtype;
    routed.centroids = setting.centroids;
    routed.scorer = {.kind = *router.scorer, .sub_blocks = setting.sub_blocks, .seed = router.scored ? 0 : seed_};
    return routed;
}

std::vector<std::byte> KernelHead::centroids(const kernels::Problem& problem) const {
    std::vector<std::byte> kept(static_cast<std::size_t>(problem.centroid_elements()) *
                                size_of(problem.centroid_dtype()));
    check(kernels::compute_centroids(problem, {.data = head_.k.bytes.data()}, kept.data(), execution_));
    return kept;
}

Summaries KernelHead::summaries(const ScoreSetting& setting) const {
    const kernels::Problem wanted = problem(setting, 1);
    const std::int64_t parts = kernels::parts_of(wanted.scorer.kind);
    const FloatRows all =
        in_fp32(centroids(wanted), wanted.centroid_dtype(), wanted.sub_blocks() * parts, wanted.head_dim);
    Summaries summaries;
    for (std::int64_t part = 0; part < parts; ++part) {
        summaries.parts.emplace_back(all(Eigen::seqN(part, wanted.sub_blocks(), parts), Eigen::all));
    }
    return summaries;
}

Selection KernelHead::route(const ScoreSetting& setting, bool keep_first, std::int64_t topk) const {
    kernels::Problem wanted = problem(setting, topk);
    wanted.keep_first = keep_first;
    Selection selection{.slots = wanted.routed(), .blocks = {}, .scores = {}};
    selection.blocks.resize(static_cast<std::size_t>(head_.q.rows * selection.slots));
    selection.scores.resize(selection.blocks.size());
    check(kernels::route(wanted, {.data = head_.q.bytes.data()}, {.data = head_.k.bytes.data()},
                         selection.blocks.data(), selection.scores.data(), execution_));
    return selection;
}

FloatRows KernelHead::attend(const kernels::Problem& problem, const std::int32_t* selection) const {
    FloatRows out(problem.seqlen_q, head_.v.head_dim);
    FloatRows part(problem.seqlen_q, problem.head_dim);
    std::vector<float> lse(static_cast<std::size_t>(problem.seqlen_q));
    for (std::size_t i = 0; i < values_.size(); ++i) {
        check(kernels::attention_forward(problem, {.data = q_.data()}, {.data = k_.data()}, {.data = values_[i].data()},
                                         selection, {.data = part.data()}, lse.data(), execution_));
        const std::int64_t first = static_cast<std::int64_t>(i) * problem.head_dim;
        const std::int64_t count = std::min(problem.head_dim, out.cols() - first);
        out.middleCols(first, count) = part.leftCols(count);
    }
    return out;
}

FloatRows KernelHead::attend(std::int64_t block_size, std::int64_t topk, const Selection& selection) const {
    const kernels::Problem wanted = problem(block_size, topk);
    const std::int64_t slots = wanted.routed();
    std::vector<std::int32_t> kept(static_cast<std::size_t>(head_.q.rows * slots));
    for (std::int64_t row = 0; row < head_.q.rows; ++row) {
        std::copy_n(selection.blocks.begin() + row * selection.slots, slots, kept.begin() + row * slots);
    }
    return attend(wanted, kept.data());
}

FloatRows KernelHead::attend_all() const {
    constexpr std::int64_t block_size = 512;  // any will do
    const std::int64_t blocks = (head_.q_start + head_.q.rows + block_size - 1) / block_size;
    const kernels::Problem wanted = problem(block_size, blocks);
    std::vector<std::int32_t> all(static_cast<std::size_t>(head_.q.rows * wanted.routed()));
    for (std::size_t i = 0; i < all.size(); ++i) {
        all[i] = static_cast<std::int32_t>(i % static_cast<std::size_t>(wanted.routed()));  // later blocks are ignored
    }
    return attend(wanted, all.data());
}

}  // namespace mobalab::experiments
