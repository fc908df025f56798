// Times the routing half of the CUDA backend: centroids, route, key-major lists; medians of CUDA events. A few rows of
// every shape are checked against double precision first.
//
//   cuda_routing_bench [--route] [--scorers] [--lists] [seqlen ...] without arguments: the tables of
//                                                              tests/perf/NOTES_cuda_routing.md
//   --route: without lists
//   --scorers: the scorers of kernels/scorers/ alone, against mean
//   --lists: lists alone, and each of their kernels
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string_view>

#include "kernels/cuda/host/path_table.h"
#include "kernels/cuda/lists/lists.h"
#include "kernels/cuda/pooling/centroid.h"
#include "kernels/cuda/pooling/key_conv.h"
#include "kernels/cuda/pooling/summaries.h"
#include "kernels/kernels.h"
#include "tests/kernels/conformance/route_row_check.h"
#include "tests/kernels/cuda/cuda_memory.h"
#include "tests/kernels/cuda/exact_scores.h"
#include "tests/kernels/cuda/selection_check.h"
#include "tests/perf/cuda_bench.cuh"

namespace mobalab::kernels {
namespace {

using namespace bench_support;
using namespace testing_support;

enum class Values {
    normal,
    equal,      // every score ties
    ascending,  // every block beats all blocks after it, and blocks are scanned from the last to the first
};

const char* name_of(Values values) {
    return values == Values::normal ? "normal" : values == Values::equal ? "equal" : "ascending";
}

/// Queries (1, 1, 0, ...), keys (high, low, 0, ...): a score is high + low, exactly.
__global__ void fill_ordered(__nv_bfloat16* q, __nv_bfloat16* keys, std::int64_t count, int row, int head_dim,
                             int seqlen, int block_size, bool ascending) {
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
        const int element = static_cast<int>(i % head_dim);
        const int block = static_cast<int>(i / row % seqlen) / block_size;
        const int rank = ascending ? seqlen / block_size - block : 1;
        q[i] = __float2bfloat16(element < 2 ? 1.0f : 0.0f);
        keys[i] = __float2bfloat16(static_cast<float>(element == 0 ? rank / 128 * 128 : element == 1 ? rank % 128 : 0));
    }
}

void check_rows(const Problem& p, const DeviceBuffer& q, const DeviceBuffer& centroids, const DeviceBuffer& selection,
                bool exact) {
    const std::int64_t first = p.keep_first ? 1 : 0;  // of the blocks that are scored
    const RowCheck check = {p.head_dim, p.scored(), exact};
    const std::vector<float> c = from_bits(centroids.read<std::uint16_t>(), p.dtype);
    const auto blocks = (p.seqlen_k + p.block_size - 1) / p.block_size;
    std::vector<std::uint16_t> row(static_cast<std::size_t>(p.head_dim));
    std::vector<std::int32_t> chosen(static_cast<std::size_t>(p.routed()));
    for (std::uint64_t i = 0; i < 48; ++i) {
        const auto b = static_cast<std::int64_t>(mix(1, i) % 2), h = static_cast<std::int64_t>(mix(2, i)) % p.heads_q;
        const std::int64_t head = std::abs(h), r = static_cast<std::int64_t>(mix(3, i) >> 1) % p.seqlen_q;
        const std::int64_t token = b * p.seqlen_q + r;
        check_cuda(cudaMemcpy(row.data(), q.as<std::uint16_t>() + (token * p.heads_q + head) * p.head_dim,
                              row.size() * 2, cudaMemcpyDeviceToHost),
                   "row");
        check_cuda(cudaMemcpy(chosen.data(), selection.as<std::int32_t>() + (head * p.tokens_q() + token) * p.routed(),
                              chosen.size() * 4, cudaMemcpyDeviceToHost),
                   "selection");
        const std::vector<float> values = from_bits(row, p.dtype);
        const auto centroid = [&](std::int64_t j) {
            return c.data() + ((b * blocks + first + j) * p.heads_k + head) * p.head_dim;
        };
        const std::int64_t own = r / p.block_size;
        std::string wrong = first > 0 && chosen[0] != (own > 0 ? 0 : -1) ? "slot 0 is not that of block 0" : "";
        for (std::int32_t& block : chosen) block -= block >= 0 ? static_cast<std::int32_t>(first) : 0;
        if (wrong.empty()) {
            wrong =
                check(values.data(), std::max<std::int64_t>(own - first, 0), centroid, chosen.data() + first, nullptr);
        }
        if (!wrong.empty()) {
            throw std::runtime_error("head " + std::to_string(head) + " row " + std::to_string(r) + ": " + wrong);
        }
    }
}

/// Rows of partial results that fit in the scratch memory the forward pass may use at this size.
std::int64_t scratch_rows(const Problem& p) {
    const std::int64_t q_bytes = p.tokens_q() * p.heads_q * p.head_dim * 2;
    return std::max<std::int64_t>(q_bytes, std::int64_t{1} << 30) / (2 * p.head_dim + 4);
}

void bench(std::int64_t n, std::int64_t heads, std::int64_t d, std::int64_t block, std::int64_t k, bool with_lists,
           Values values = Values::normal, bool keep_first = false) {
    Problem p = make_problem(n, heads, d, block, k);
    p.keep_first = keep_first;
    const std::int64_t elements = p.tokens_q() * heads * d;
    const DeviceBuffer q(static_cast<std::size_t>(elements) * 2), keys(static_cast<std::size_t>(elements) * 2);
    if (values == Values::normal) {
        fill_normal<<<1024, 256>>>(q.as<__nv_bfloat16>(), elements, 1);
        fill_normal<<<1024, 256>>>(keys.as<__nv_bfloat16>(), elements, 2);
    } else {
        fill_ordered<<<1024, 256>>>(q.as<__nv_bfloat16>(), keys.as<__nv_bfloat16>(), elements,
                                    static_cast<int>(heads * d), static_cast<int>(d), static_cast<int>(n),
                                    static_cast<int>(block), values == Values::ascending);
    }
    const DeviceBuffer centroids(static_cast<std::size_t>(p.blocks() * heads * d) * 2);
    const DeviceBuffer selection(static_cast<std::size_t>(p.tokens_q() * heads * p.routed()) * 4);
    const ConstTensor qt = as_const(contiguous_rows(p, q.get())), kt = as_const(contiguous_rows(p, keys.get()));
    const auto run_centroids = [&] {
        must(cuda::launch_centroids(p, kt, nullptr, {nullptr, centroids.get(), nullptr}, nullptr));
    };
    const auto run_route = [&] {
        must(cuda::current_path_table().route(p, qt, centroids.get(), nullptr, nullptr, nullptr,
                                              selection.as<std::int32_t>(), nullptr, nullptr));
    };
    run_centroids();
    run_route();
    check_cuda(cudaDeviceSynchronize(), "route");
    check_rows(p, q, centroids, selection, values != Values::normal);

    const double t_centroids = median_ms(run_centroids);
    const double t_route = median_ms(run_route);
    const double blocks = static_cast<double>(n) / static_cast<double>(block);
    const double flop = static_cast<double>(2 * heads * n) * blocks * static_cast<double>(d);  // causal half
    std::printf("%7ld %3ld %4ld %4ld %3ld %-10s | %8.3f %8.3f (%4.0f TF/s)", n, heads, d, block, k,
                keep_first ? "keep_first" : name_of(values), t_centroids, t_route, flop / t_route * 1e-9);
    if (with_lists) {
        const cuda::ListPlan whole = cuda::make_list_plan(p, {std::int64_t{1} << 31, 16});
        const cuda::ListPlan capped = cuda::make_list_plan(p, {scratch_rows(p), 16});
        const DeviceBuffer lists(std::max(cuda::list_workspace_size(whole), cuda::list_workspace_size(capped)));

        const auto run_lists = [&](const cuda::ListPlan& plan) {
            for (std::int32_t c = 0; c < plan.chunks(); ++c) {
                cuda::ListView view;
                must(cuda::build_lists(plan, c, selection.as<std::int32_t>(), lists.get(), nullptr, view));
            }
        };
        const double t_whole = whole.chunks() == 1 ? median_ms([&] { run_lists(whole); }) : 0.0;
        const double t_capped = median_ms([&] { run_lists(capped); });
        const double t_all = median_ms([&] {
            run_centroids();
            run_route();
            run_lists(capped);
        });
        std::printf(" %8.3f %8.3f (%2d chunks) | all %8.3f", t_whole, t_capped, capped.chunks(), t_all);
    }
    std::printf("\n");
    std::fflush(stdout);
}

/// What `run` enqueues, as a graph whose kernels can be launched one by one.
class CapturedKernels {
public:
    explicit CapturedKernels(const std::function<void(cudaStream_t)>& run) {
        check_cuda(cudaStreamCreate(&stream_), "stream");
        check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
        run(stream_);
        check_cuda(cudaStreamEndCapture(stream_, &graph_), "capture");
        std::size_t count = 0;
        check_cuda(cudaGraphGetNodes(graph_, nullptr, &count), "nodes");
        std::vector<cudaGraphNode_t> nodes(count);
        check_cuda(cudaGraphGetNodes(graph_, nodes.data(), &count), "nodes");
        kernels_.resize(count);
        for (std::size_t i = 0; i < count; ++i) {
            check_cuda(cudaGraphKernelNodeGetParams(nodes[i], &kernels_[i]), "kernel of a node");
        }
    }
    ~CapturedKernels() {
        cudaGraphDestroy(graph_);
        cudaStreamDestroy(stream_);
    }
    CapturedKernels(const CapturedKernels&) = delete;
    CapturedKernels& operator=(const CapturedKernels&) = delete;

    std::size_t count() const { return kernels_.size(); }

    /// Of kernel i behind those before it, from its launch to its end.
    double ms(std::size_t i) const {
        cudaEvent_t begin, end;
        check_cuda(cudaEventCreate(&begin), "event");
        check_cuda(cudaEventCreate(&end), "event");
        std::vector<float> times(9);
        for (float& time : times) {
            for (std::size_t j = 0; j < i; ++j) launch(j);
            check_cuda(cudaEventRecord(begin, stream_), "record");
            launch(i);
            check_cuda(cudaEventRecord(end, stream_), "record");
            check_cuda(cudaEventSynchronize(end), "synchronize");
            check_cuda(cudaEventElapsedTime(&time, begin, end), "elapsed");
        }
        cudaEventDestroy(begin);
        cudaEventDestroy(end);
        std::nth_element(times.begin(), times.begin() + 4, times.end());
        return times[4];
    }

private:
    void launch(std::size_t i) const {
        const cudaKernelNodeParams& k = kernels_[i];
        check_cuda(cudaLaunchKernel(k.func, k.gridDim, k.blockDim, k.kernelParams, k.sharedMemBytes, stream_),
                   "kernel of a graph");
    }

    cudaStream_t stream_ = nullptr;
    cudaGraph_t graph_ = nullptr;
    std::vector<cudaKernelNodeParams> kernels_;
};

/// The lists of one chunk, in windows of that many tokens (0: one window), and their kernels.
void bench_lists(std::int64_t n, std::int64_t heads, std::int64_t block, std::int64_t k, std::int64_t window = 0) {
    constexpr std::int64_t d = 64;
    const Problem p = make_problem(n, heads, d, block, k);
    const std::int64_t elements = p.tokens_q() * heads * d;
    const DeviceBuffer q(static_cast<std::size_t>(elements) * 2), keys(static_cast<std::size_t>(elements) * 2);
    fill_normal<<<1024, 256>>>(q.as<__nv_bfloat16>(), elements, 1);
    fill_normal<<<1024, 256>>>(keys.as<__nv_bfloat16>(), elements, 2);
    const DeviceBuffer centroids(static_cast<std::size_t>(p.blocks() * heads * d) * 2);
    const DeviceBuffer selection(static_cast<std::size_t>(p.tokens_q() * heads * p.routed()) * 4);
    const ConstTensor qt = as_const(contiguous_rows(p, q.get())), kt = as_const(contiguous_rows(p, keys.get()));
    must(cuda::launch_centroids(p, kt, nullptr, {nullptr, centroids.get(), nullptr}, nullptr));
    must(cuda::current_path_table().route(p, qt, centroids.get(), nullptr, nullptr, nullptr,
                                          selection.as<std::int32_t>(), nullptr, nullptr));
    check_cuda(cudaDeviceSynchronize(), "route");
    cuda::ListOptions options;
    options.max_rows = std::int64_t{1} << 31;
    options.window = window;
    const cuda::ListPlan plan = cuda::make_list_plan(p, options);
    const DeviceBuffer lists(cuda::list_workspace_size(plan));
    const auto build = [&](cudaStream_t stream) {
        cuda::ListView view;
        must(cuda::build_lists(plan, 0, selection.as<std::int32_t>(), lists.get(), stream, view));
    };
    const double all = median_ms([&] { build(nullptr); });
    std::printf("lists: seqlen %7ld heads %2ld B %3ld k %2ld window %6ld | %8.4f ms; kernels", n, heads, block, k,
                window, all);
    const CapturedKernels kernels(build);
    for (std::size_t i = 0; i < kernels.count(); ++i) std::printf(" %8.4f", kernels.ms(i));
    std::printf("\n");
    std::fflush(stdout);
}

/// The key convolution alone, and with the centroids of its output in one pass and in two.
void bench_conv(std::int64_t n) {
    const Problem p = make_problem(n, 16, 128, 128, 8);
    const std::int64_t elements = p.tokens_k() * 16 * 128;
    const DeviceBuffer keys(static_cast<std::size_t>(elements) * 2), out(static_cast<std::size_t>(elements) * 2);
    const DeviceBuffer centroids(static_cast<std::size_t>(p.blocks() * 16 * 128) * 2);
    const DeviceBuffer weight(16 * 128 * 5 * 4);
    fill_normal<<<1024, 256>>>(keys.as<__nv_bfloat16>(), elements, 2);
    check_cuda(cudaMemset(weight.get(), 0, weight.bytes()), "memset");
    const Tensor to = contiguous_rows(p, out.get());
    const ConstTensor from = as_const(contiguous_rows(p, keys.get())), convolved = as_const(to);
    const cuda::CentroidOutput pooled = {nullptr, centroids.get(), nullptr};
    for (const int width : {3, 5}) {
        const auto conv = [&] { must(cuda::launch_key_conv(p, from, weight.as<float>(), width, to, nullptr)); };
        const double ms = median_ms(conv);
        const double apart = median_ms([&] {
            conv();
            must(cuda::launch_centroids(p, convolved, nullptr, pooled, nullptr));
        });
        const double fused = median_ms([&] {
            must(cuda::launch_conv_centroids(p, from, weight.as<float>(), width, to, nullptr, pooled, nullptr));
        });
        std::printf("key convolution n %ld width %d: %.3f ms, %.0f GB/s; with centroids %.3f ms, fused %.3f ms\n", n,
                    width, ms, static_cast<double>(elements) * 4e-6 / ms, apart, fused);
    }
}

/// What the device kept, routed and scored under a problem's scorer, against double precision.
void check_scorer(const Problem& p, const DeviceBuffer& q, const DeviceBuffer& kept, const DeviceBuffer& selection,
                  const DeviceBuffer& scores) {
    const bool hashed = find_scorer(p.scorer.kind)->parts == 0;
    const std::vector<float> values = from_bits(kept.read<std::uint16_t>(), p.dtype);
    std::vector<std::uint16_t> row(static_cast<std::size_t>(p.head_dim));
    const auto slots = static_cast<std::size_t>(p.routed());
    std::vector<std::int32_t> chosen(slots);
    std::vector<float> chosen_scores(slots);
    for (std::uint64_t i = 0; i < 48; ++i) {
        const auto b = static_cast<std::int64_t>(mix(1, i) >> 1) % p.batch;
        const auto head = static_cast<std::int64_t>(mix(2, i) >> 1) % p.heads_q;
        const auto r = static_cast<std::int64_t>(mix(3, i) >> 1) % p.seqlen_q;
        const std::int64_t token = b * p.seqlen_q + r, at = (head * p.tokens_q() + token) * p.routed();
        const auto get = [](void* to, const void* from, std::size_t bytes) {
            check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "row");
        };
        get(row.data(), q.as<std::uint16_t>() + (token * p.heads_q + head) * p.head_dim, row.size() * 2);
        get(chosen.data(), selection.as<std::int32_t>() + at, slots * 4);
        get(chosen_scores.data(), scores.as<float>() + at, slots * 4);
        const std::int64_t candidates = r / p.block_size, begin = b * p.longest_blocks() * p.scorer.sub_blocks;
        const ExactRow exact =
            hashed
                ? hashed_row(p.scorer, b, head, r, candidates)
                : exact_row(p.scorer, p.head_dim, from_bits(row, p.dtype).data(), candidates, p.sub_blocks(),
                            [&](int part, std::int64_t j) {
                                return values.data() +
                                       (((begin + j) * find_scorer(p.scorer.kind)->parts + part) * p.heads_k + head) *
                                           p.head_dim;
                            });
        const std::string wrong =
            SelectionCheck{exact.score, exact.slack()}(p.routed(), chosen.data(), chosen_scores.data());
        if (!wrong.empty()) {
            throw std::runtime_error("head " + std::to_string(head) + " row " + std::to_string(r) + ": " + wrong);
        }
    }
}

struct ScorerTimes {
    double summaries = 0.0, route = 0.0;
};

ScorerTimes time_scorer(const Problem& p, const DeviceBuffer& q, const DeviceBuffer& keys) {
    const ScorerDefinition& definition = *find_scorer(p.scorer.kind);
    const std::int64_t elements = p.sub_blocks() * p.heads_k * p.head_dim;
    const DeviceBuffer kept(static_cast<std::size_t>(std::max<std::int64_t>(definition.parts * elements, 8)) * 2);
    const auto entries = static_cast<std::size_t>(p.tokens_q() * p.heads_q * p.routed());
    const DeviceBuffer selection(entries * 4), scores(entries * 4);
    const ConstTensor qt = as_const(contiguous_rows(p, q.get())), kt = as_const(contiguous_rows(p, keys.get()));
    void* const high = definition.parts > 0 ? kept.get() : nullptr;
    void* const low = definition.parts > 1 ? kept.as<std::uint16_t>() + p.heads_k * p.head_dim : nullptr;
    const auto summarise = [&] { must(cuda::launch_summaries(p, kt, nullptr, {nullptr, high, low}, nullptr)); };
    const auto route_into = [&](float* with_scores) {
        must(cuda::current_path_table().route(p, qt, high, low, nullptr, nullptr, selection.as<std::int32_t>(),
                                              with_scores, nullptr));
    };
    summarise();
    route_into(scores.as<float>());
    check_cuda(cudaDeviceSynchronize(), "route");
    check_scorer(p, q, kept, selection, scores);
    return {definition.parts > 0 ? median_ms(summarise) : 0.0, median_ms([&] { route_into(nullptr); })};
}

/// Every scorer at one shape, and its time in those of mean.
void bench_scorers(std::int64_t n, std::int64_t d, std::int64_t block, std::int64_t k) {
    constexpr std::int64_t heads = 16;
    Problem p = make_problem(n, heads, d, block, k);
    const std::int64_t elements = p.tokens_q() * heads * d;
    const DeviceBuffer q(static_cast<std::size_t>(elements) * 2), keys(static_cast<std::size_t>(elements) * 2);
    fill_normal<<<1024, 256>>>(q.as<__nv_bfloat16>(), elements, 1);
    fill_normal<<<1024, 256>>>(keys.as<__nv_bfloat16>(), elements, 2);
    std::printf("scorers: seqlen %ld, d %ld, B %ld, k %ld | summaries, route, both (ms), of mean's both\n", n, d, block,
                k);
    double of_mean = 0.0;
    for (const Scorer& scorer :
         {Scorer{ScorerKind::mean}, Scorer{ScorerKind::max}, Scorer{ScorerKind::quest}, Scorer{ScorerKind::submean, 2},
          Scorer{ScorerKind::submean, 4}, Scorer{ScorerKind::submean, 8}, Scorer{ScorerKind::submean, 16},
          Scorer{ScorerKind::random}}) {
        p.scorer = scorer;
        const ScorerTimes times = time_scorer(p, q, keys);
        const double both = times.summaries + times.route;
        if (of_mean == 0.0) of_mean = both;
        const std::string_view name = find_scorer(scorer.kind)->name;
        std::printf("  %-8.*s r %2ld | %8.3f %8.3f %8.3f  %5.2f\n", static_cast<int>(name.size()), name.data(),
                    scorer.sub_blocks, times.summaries, times.route, both, both / of_mean);
        std::fflush(stdout);
    }
}

}  // namespace
}  // namespace mobalab::kernels

int main(int argc, char** argv) {
    using namespace mobalab::kernels;
    if (const Status s = backend_available(Backend::cuda); !s.ok()) {
        std::printf("%s\n", s.message.c_str());
        return 0;
    }
    bool with_lists = true, scorers_alone = false, lists_alone = false;
    std::vector<std::int64_t> sizes;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--route") == 0) {
            with_lists = false;
        } else if (std::strcmp(argv[i], "--scorers") == 0) {
            scorers_alone = true;
        } else if (std::strcmp(argv[i], "--lists") == 0) {
            lists_alone = true;
        } else {
            sizes.push_back(std::atol(argv[i]));
        }
    }
    if (sizes.empty() && scorers_alone) sizes = {65536};
    if (sizes.empty() && lists_alone) sizes = {4096, 8192, 65536, 524288};
    if (sizes.empty()) sizes = {8192, 16384, 32768, 65536, 131072, 262144, 524288};
    if (!scorers_alone && !lists_alone) {
        std::printf("seqlen heads d B k values | centroids, route%s (ms, batch 2, bf16)\n",
                    with_lists ? ", lists, lists with capped scratch" : "");
    }
    try {
        for (const std::int64_t n : sizes) {
            if (scorers_alone) {
                bench_scorers(n, 128, 128, 8);
                bench_scorers(n, 128, 128, 64);
                continue;
            }
            if (lists_alone) {
                bench_lists(n, 8, 128, 8);
                if (n < 65536) continue;
                bench_lists(n, 16, 128, 8);
                bench_lists(n, 16, 128, 8, 65536);
                if (n > 65536) continue;
                bench_lists(n, 16, 64, 8);
                bench_lists(n, 16, 128, 16);
                bench_lists(n, 16, 128, 32);
                bench_lists(n, 16, 16, 64);
                bench_lists(n, 16, 16, 8);
                continue;
            }
            bench(n, 16, 128, 128, 8, with_lists);
            if (n == 8192 || n == 65536) bench(n, 16, 128, 128, 8, with_lists, Values::normal, true);
            if (n == 65536 || n == 262144) bench(n, 16, 128, 64, 8, with_lists);
            if (n == 524288) bench(n, 16, 128, 128, 8, false, Values::ascending);
            if (n != 65536) continue;
            bench(n, 32, 64, 64, 8, with_lists);
            bench(n, 16, 128, 256, 8, with_lists);
            bench(n, 16, 128, 128, 16, with_lists);
            bench(n, 16, 128, 16, 64, with_lists);
            for (const std::int64_t k : {2, 9, 16}) bench(n, 16, 128, 128, k, false, Values::normal, true);
            bench(n, 16, 128, 16, 64, false, Values::normal, true);
            for (const Values values : {Values::equal, Values::ascending}) {
                bench(n, 16, 128, 128, 8, false, values);
                bench(n, 16, 128, 16, 64, false, values);
            }
            bench_conv(n);
            bench_scorers(n, 128, 128, 8);
        }
    } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
        return 1;
    }
    return 0;
}
