#include "experiments/measure/cuda/device_head.h"

#include <algorithm>
#include <cmath>

#include "experiments/measure/cuda/row_vectors.h"
#include "experiments/measure/cuda/split_means.h"

namespace mobalab::experiments::cuda {
namespace {

using kernels::Operation;
using kernels::Problem;

constexpr std::int64_t element_bytes = 2;

}  // namespace

DeviceHead::DeviceHead(const HeadTensors& head, std::uint64_t seed, cudaStream_t stream)
    : dtype_(head.q.dtype),
      head_dim_(static_cast<std::int32_t>(head.q.head_dim)),
      rows_(static_cast<std::int32_t>(head.q.rows)),
      q_start_(static_cast<std::int32_t>(head.q_start)),
      scale_(head.scale),
      seed_(seed),
      stream_(stream) {
    q_ = StreamArray<std::byte>(rows_ * row_bytes(), stream);
    q_.upload(head.q.bytes.data(), q_.count());
    k_ = StreamArray<std::byte>(keys() * row_bytes(), stream);
    k_.upload(head.k.bytes.data(), k_.count());
    if (head.v.rows > 0) {
        upload_values(head.v);
        scale_queries();
    }
}

void DeviceHead::upload_values(const HeadRows& v) {
    const std::int64_t from_bytes = v.head_dim * element_bytes;
    for (std::int64_t first = 0; first < v.head_dim; first += head_dim_) {
        const StreamArray<std::byte>& part = values_.emplace_back(keys() * row_bytes(), stream_);
        part.clear();
        const std::int64_t bytes = std::min<std::int64_t>(head_dim_, v.head_dim - first) * element_bytes;
        check_cuda(
            cudaMemcpy2DAsync(part.get(), static_cast<std::size_t>(row_bytes()), v.bytes.data() + first * element_bytes,
                              static_cast<std::size_t>(from_bytes), static_cast<std::size_t>(bytes),
                              static_cast<std::size_t>(keys()), cudaMemcpyHostToDevice, stream_),
            "copying values");
    }
}

void DeviceHead::scale_queries() {
    const auto factor = static_cast<float>(scale_ * std::sqrt(static_cast<double>(head_dim_)));
    if (factor == 1.0F) {
        return;
    }
    attention_q_ = StreamArray<std::byte>(q_.count(), stream_);
    const ScaledRowsArgs args{
        .from = q_.get(), .to = attention_q_.get(), .elements = q_.count() / element_bytes, .factor = factor};
    check_cuda(launch_scaled_rows(dtype_, args, stream_), "scaling queries");
}

Problem DeviceHead::problem(std::int64_t block_size, std::int64_t topk) const {
    Problem problem;
    problem.seqlen_q = rows_;
    problem.seqlen_k = keys();
    problem.head_dim = head_dim_;
    problem.block_size = block_size;
    problem.topk = topk;
    problem.dtype = dtype_;
    return problem;
}

Problem DeviceHead::problem(const Router& router, const ScoreSetting& setting, std::int64_t topk) const {
    Problem routed = problem(setting.block_size, topk);
    routed.centroids = setting.centroids;
    routed.scorer = {.kind = *router.scorer, .sub_blocks = setting.sub_blocks, .seed = router.scored ? 0 : seed_};
    return routed;
}

std::int32_t DeviceHead::slots(std::int64_t block_size, std::int64_t topk) const {
    return static_cast<std::int32_t>(problem(block_size, topk).routed());
}

std::int32_t DeviceHead::blocks(std::int64_t block_size) const {
    return static_cast<std::int32_t>(std::max<std::int64_t>(1, (keys() - 1) / block_size));
}

StreamArray<std::byte> DeviceHead::workspace(Operation operation, const Problem& problem) const {
    return {static_cast<std::int64_t>(kernels::workspace_size(operation, problem, kernels::Backend::cuda)), stream_};
}

kernels::Execution DeviceHead::execution(const StreamArray<std::byte>& workspace) const {
    return {.backend = kernels::Backend::cuda,
            .stream = stream_,
            .workspace = workspace.get(),
            .workspace_bytes = workspace.bytes()};
}

StreamArray<std::byte> DeviceHead::centroids(const Problem& problem) const {
    const std::int64_t bytes =
        problem.centroid_elements() * static_cast<std::int64_t>(size_of(problem.centroid_dtype()));
    StreamArray<std::byte> kept(bytes, stream_);
    const StreamArray<std::byte> scratch = workspace(Operation::centroids, problem);
    check(kernels::compute_centroids(problem, {.data = k_.get()}, kept.get(), execution(scratch)));
    return kept;
}

StreamArray<std::int32_t> DeviceHead::route(const Router& router, const ScoreSetting& setting, bool keep_first,
                                            std::int64_t topk) const {
    Problem routed = problem(router, setting, topk);
    routed.keep_first = keep_first;
    StreamArray<std::int32_t> selection(rows_ * routed.routed(), stream_);
    const StreamArray<std::byte> scratch = workspace(Operation::route, routed);
    check(kernels::route(routed, {.data = q_.get()}, {.data = k_.get()}, selection.get(), nullptr, execution(scratch)));
    return selection;
}

DeviceSummaries DeviceHead::summaries(const Router& router, const ScoreSetting& setting) const {
    if (setting.centroids == kernels::Centroids::fp32) {
        return unrounded_summaries(setting);
    }
    const Problem wanted = problem(router, setting, 1);
    const kernels::ScorerDefinition& scorer = *kernels::find_scorer(*router.scorer);
    DeviceSummaries kept;
    kept.elements = centroids(wanted);
    kept.args.summaries = kept.elements.get();
    kept.args.sub_block_count = static_cast<std::int32_t>(wanted.sub_blocks());
    kept.args.parts = scorer.parts;
    for (std::size_t part = 0; part < scorer.part.size(); ++part) {
        kept.args.map[part] = scorer.part[part].map;
    }
    kept.args.block_size = static_cast<std::int32_t>(setting.block_size);
    kept.args.sub_blocks = static_cast<std::int32_t>(setting.sub_blocks);
    kept.args.blocks = blocks(setting.block_size);
    return kept;
}

DeviceSummaries DeviceHead::unrounded_summaries(const ScoreSetting& setting) const {
    SplitMeansArgs means;
    means.k = k_.get();
    means.keys = keys();
    means.head_dim = head_dim_;
    means.sub_block_keys = static_cast<std::int32_t>(setting.block_size / setting.sub_blocks);
    means.sub_blocks = static_cast<std::int32_t>(problem(setting.block_size, 1).longest_blocks() * setting.sub_blocks);
    DeviceSummaries kept;
    kept.elements = StreamArray<std::byte>(2 * means.sub_blocks * row_bytes(), stream_);
    means.means = kept.elements.get();
    check_cuda(launch_split_means(dtype_, means, stream_), "means of blocks");
    kept.args.summaries = kept.elements.get();
    kept.args.sub_block_count = means.sub_blocks;
    kept.args.parts = 2;  // the two halves of a mean, each times the query
    kept.args.block_size = static_cast<std::int32_t>(setting.block_size);
    kept.args.sub_blocks = static_cast<std::int32_t>(setting.sub_blocks);
    kept.args.blocks = blocks(setting.block_size);
    return kept;
}

StreamArray<std::byte> DeviceHead::attend(std::int64_t block_size, std::int32_t slots, const std::int32_t* selection,
                                          const StreamArray<std::byte>& values) const {
    const Problem wanted = problem(block_size, slots + 1);
    StreamArray<std::byte> out(q_.count(), stream_);
    const StreamArray<float> lse(rows_, stream_);
    const StreamArray<std::byte> scratch = workspace(Operation::attention_forward, wanted);
    const std::byte* const queries = attention_q_.get() != nullptr ? attention_q_.get() : q_.get();
    check(kernels::attention_forward(wanted, {.data = queries}, {.data = k_.get()}, {.data = values.get()}, selection,
                                     {.data = out.get()}, lse.get(), execution(scratch)));
    return out;
}

}  // namespace mobalab::experiments::cuda
