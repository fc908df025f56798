// Times attention_forward, by lists and by queries where both can, and moba_forward of the CUDA backend; medians of
// CUDA events, up to 8K tokens of calls in a CUDA graph. Every output is checked first: rows at random against double
// precision over the same selection.
//
//   cuda_attention_bench                      the table of tests/perf/NOTES_cuda_attention.md
//   cuda_attention_bench NAME ...             some of its cases, or of those of other shapes
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/forward/attention.h"
#include "kernels/cuda/forward/forward_choice.h"
#include "kernels/cuda/host/path_table.h"
#include "kernels/cuda/lists/lists.h"
#include "tests/perf/cuda_bench.cuh"

namespace mobalab::kernels {
namespace {

using namespace bench_support;
using namespace testing_support;

enum class Draw { uniform, sink, skewed };

struct Setting {
    const char* name;
    std::int64_t n, heads, d, block, topk;
    Draw draw = Draw::uniform;
    std::int64_t batch = 2;
};

constexpr Setting settings[] = {
    {"2K-small", 2048, 8, 128, 128, 8, Draw::uniform, 1},
    {"4K-small", 4096, 8, 128, 128, 8, Draw::uniform, 1},
    {"4K-small-B64", 4096, 8, 128, 64, 8, Draw::uniform, 1},
    {"8K-small", 8192, 8, 128, 128, 8, Draw::uniform, 1},
    {"8K-small-B64", 8192, 8, 128, 64, 8, Draw::uniform, 1},
    {"4K", 4096, 16, 128, 128, 8},
    {"8K", 8192, 16, 128, 128, 8},
    {"16K", 16384, 16, 128, 128, 8},
    {"32K", 32768, 16, 128, 128, 8},
    {"64K", 65536, 16, 128, 128, 8},
    {"64K-sink", 65536, 16, 128, 128, 8, Draw::sink},
    {"64K-skewed", 65536, 16, 128, 128, 8, Draw::skewed},
    {"64K-B64", 65536, 16, 128, 64, 8},
    {"64K-B256", 65536, 16, 128, 256, 8},
    {"64K-B16-k64", 65536, 16, 128, 16, 64},
    {"64K-B16-k64-skewed", 65536, 16, 128, 16, 64, Draw::skewed},
    {"64K-d64", 65536, 32, 64, 64, 8},
    {"128K", 131072, 16, 128, 128, 8},
    {"256K-B64", 262144, 16, 128, 64, 8},
    {"512K", 524288, 16, 128, 128, 8},
};

/// Beside the table: blocks and widths without kernels of their own, and their neighbours; more slots than lists hold;
/// very long sequences.
constexpr Setting other_shapes[] = {
    {"4K-skewed", 4096, 16, 128, 128, 8, Draw::skewed},
    {"8K-B64", 8192, 16, 128, 64, 8},
    {"8K-B256", 8192, 16, 128, 256, 8},
    {"8K-B512", 8192, 16, 128, 512, 8},
    {"8K-d64", 8192, 32, 64, 64, 8},
    {"8K-B16-k64", 8192, 16, 128, 16, 64},
    {"16K-B16-k64", 16384, 16, 128, 16, 64},
    {"32K-B16-k64", 32768, 16, 128, 16, 64},
    {"32K-B16-k64-skewed", 32768, 16, 128, 16, 64, Draw::skewed},
    {"64K-B32-k32", 65536, 16, 128, 32, 32},
    {"64K-B512", 65536, 16, 128, 512, 8},
    {"64K-B1024", 65536, 16, 128, 1024, 8},
    {"64K-B4096-k12", 65536, 4, 128, 4096, 12},
    {"64K-B1000", 65536, 16, 128, 1000, 8},
    {"64K-B256-d64", 65536, 32, 64, 256, 8},
    {"64K-B100", 65536, 16, 128, 100, 8},
    {"64K-B96", 65536, 16, 128, 96, 8},
    {"64K-B48", 65536, 16, 128, 48, 8},
    {"64K-d112", 65536, 16, 112, 128, 8},
    {"64K-d80", 65536, 16, 80, 128, 8},
    {"64K-d96", 65536, 16, 96, 128, 8},
    {"64K-B64-k65", 65536, 4, 128, 64, 65},
    {"64K-B64-k128", 65536, 4, 128, 64, 128},
    {"64K-B64-k1024", 65536, 1, 128, 64, 1024},
    {"64K-d192", 65536, 8, 192, 128, 8},
    {"64K-d256", 65536, 8, 256, 128, 8},
    {"512K-B64", 524288, 16, 128, 64, 8},
    {"1M", 1048576, 1, 128, 128, 8},
    {"1M-B16-k64", 1048576, 1, 128, 16, 64},
    {"1M-B4096-k12", 1048576, 1, 128, 4096, 12},
};

/// Distinct past blocks per query: at random; two sinks and the rest at random; or own * u^4.
__global__ void draw_selection(std::int32_t* selection, std::int64_t rows, int n, int block, int slots, Draw draw) {
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    const int own = static_cast<int>(row % n) / block;
    std::int32_t* const chosen = selection + row * slots;
    for (int slot = 0; slot < slots; ++slot) {
        if (slot >= own) {
            chosen[slot] = -1;
            continue;
        }
        std::uint64_t x = static_cast<std::uint64_t>(row * slots + slot) * 0xbf58476d1ce4e5b9ull + 77;
        x = (x ^ (x >> 30)) * 0x94d049bb133111ebull;
        x ^= x >> 31;
        const float u = static_cast<float>(x >> 40) * 0x1p-24f;
        int pick = min(static_cast<int>((draw == Draw::skewed ? u * u * u * u : u) * static_cast<float>(own)), own - 1);
        if (draw == Draw::sink && slot < 2) pick = slot;
        for (int i = 0; i < slot; ++i) {  // the next block that is free
            if (chosen[i] != pick) continue;
            pick = (pick + 1) % own;
            i = -1;
        }
        chosen[slot] = pick;
    }
}

struct Tensors {
    explicit Tensors(const Problem& p)
        : elements(p.tokens_q() * p.heads_q * p.head_dim),
          q(bytes()),
          k(bytes()),
          v(bytes()),
          out(bytes()),
          lse(static_cast<std::size_t>(p.tokens_q() * p.heads_q) * sizeof(float)),
          selection(static_cast<std::size_t>(p.tokens_q() * p.heads_q * p.routed()) * sizeof(std::int32_t)) {
        std::uint64_t seed = 1;
        for (const DeviceBuffer* buffer : {&q, &k, &v}) {
            fill_normal<<<1024, 256>>>(buffer->as<__nv_bfloat16>(), elements, seed++);
        }
    }
    std::size_t bytes() const { return static_cast<std::size_t>(elements) * 2; }

    std::int64_t elements;
    DeviceBuffer q, k, v, out, lse, selection;
};

std::vector<float> read_rows(const DeviceBuffer& from, const Problem& p, std::int64_t head, std::int64_t token,
                             std::int64_t count) {
    std::vector<std::uint16_t> rows(static_cast<std::size_t>(count * p.head_dim));
    const auto width = static_cast<std::size_t>(p.head_dim) * 2;
    check_cuda(cudaMemcpy2D(rows.data(), width, from.as<std::uint16_t>() + (token * p.heads_q + head) * p.head_dim,
                            static_cast<std::size_t>(p.heads_q) * width, width, static_cast<std::size_t>(count),
                            cudaMemcpyDeviceToHost),
               "rows");
    return from_bits(rows, p.dtype);
}

/// One query in double precision over its own and its selected blocks: output and log-sum-exp.
struct ExactRow {
    std::vector<double> out;
    double lse = -INFINITY;
};
ExactRow exact_row(const Problem& p, const Tensors& t, std::int64_t head, std::int64_t token) {
    const std::int64_t row = token % p.seqlen_q, first = token - row, d = p.head_dim;
    std::vector<std::int32_t> blocks(static_cast<std::size_t>(p.routed()));
    check_cuda(cudaMemcpy(blocks.data(), t.selection.as<std::int32_t>() + (head * p.tokens_q() + token) * p.routed(),
                          blocks.size() * 4, cudaMemcpyDeviceToHost),
               "selection");
    blocks.push_back(static_cast<std::int32_t>(row / p.block_size));
    const std::vector<float> q = read_rows(t.q, p, head, token, 1);
    std::vector<double> scores, values;
    for (const std::int32_t block : blocks) {
        if (block < 0) continue;
        const std::int64_t begin = block * p.block_size, count = std::min(begin + p.block_size, row + 1) - begin;
        const std::vector<float> k = read_rows(t.k, p, head, first + begin, count);
        const std::vector<float> v = read_rows(t.v, p, head, first + begin, count);
        values.insert(values.end(), v.begin(), v.end());
        for (std::int64_t key = 0; key < count; ++key) {
            double score = 0.0;
            for (std::int64_t e = 0; e < d; ++e) {
                score += static_cast<double>(q[static_cast<std::size_t>(e)]) * k[static_cast<std::size_t>(key * d + e)];
            }
            scores.push_back(score / std::sqrt(static_cast<double>(d)));
        }
    }
    ExactRow exact{std::vector<double>(static_cast<std::size_t>(d)), 0.0};
    const double top = *std::max_element(scores.begin(), scores.end());
    double sum = 0.0;
    for (std::size_t key = 0; key < scores.size(); ++key) {
        const double weight = std::exp(scores[key] - top);
        sum += weight;
        for (std::size_t e = 0; e < exact.out.size(); ++e) exact.out[e] += weight * values[key * exact.out.size() + e];
    }
    for (double& x : exact.out) x /= sum;
    exact.lse = top + std::log(sum);
    return exact;
}

void check_rows(const Problem& p, const Tensors& t) {
    std::mt19937_64 engine(5);
    double difference = 0.0, norm = 0.0;
    for (int i = 0; i < 40; ++i) {
        const auto head = static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(p.heads_q));
        const auto token =
            i == 0 ? p.tokens_q() - 1 : static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(p.tokens_q()));
        const ExactRow exact = exact_row(p, t, head, token);
        const std::vector<float> out = read_rows(t.out, p, head, token, 1);
        float lse = NAN;
        check_cuda(cudaMemcpy(&lse, t.lse.as<float>() + head * p.tokens_q() + token, 4, cudaMemcpyDeviceToHost), "lse");
        if (!(std::abs(lse - exact.lse) < 2e-3)) {
            throw std::runtime_error("lse of head " + std::to_string(head) + ", token " + std::to_string(token) + ": " +
                                     std::to_string(lse) + ", exactly " + std::to_string(exact.lse));
        }
        for (std::size_t e = 0; e < out.size(); ++e) {
            difference += (out[e] - exact.out[e]) * (out[e] - exact.out[e]);
            norm += exact.out[e] * exact.out[e];
        }
    }
    const double relative = std::sqrt(difference / norm);
    if (!(relative < 4e-3)) throw std::runtime_error("relative error " + std::to_string(relative));
}

class Bench {
public:
    explicit Bench(const Setting& setting) : setting_(setting), problem_(problem_of(setting)), tensors_(problem_) {
        const std::int64_t rows = problem_.tokens_q() * problem_.heads_q;
        draw_selection<<<static_cast<unsigned>((rows + 127) / 128), 128>>>(
            tensors_.selection.as<std::int32_t>(), rows, static_cast<int>(setting.n), static_cast<int>(setting.block),
            static_cast<int>(problem_.routed()), setting.draw);
        check_cuda(cudaDeviceSynchronize(), "inputs");
    }

    /// Attention over the drawn selection by each algorithm, checked before it is timed.
    void attention() const {
        for (const Algorithm& algorithm : algorithms()) {
            const DeviceBuffer workspace(algorithm.workspace);
            const auto run = [&](cudaStream_t stream) { must(algorithm.run(workspace.get(), stream)); };
            check_cuda(cudaMemset(tensors_.out.get(), 0xff, tensors_.bytes()), "outputs");
            run(nullptr);
            check_cuda(cudaDeviceSynchronize(), "attention");
            check_rows(problem_, tensors_);
            if (!workspace.canaries_intact()) throw std::runtime_error("the workspace was overrun");
            std::printf("%-18s attention %8.4f by %s, workspace %.0f MB", setting_.name, time_ms(run), algorithm.name,
                        static_cast<double>(workspace.bytes()) * 1e-6);
            if (algorithm.has_lists) print_lists(workspace);
            std::printf("\n");
            std::fflush(stdout);
        }
    }

    void moba() const {
        const DeviceBuffer workspace(workspace_size(Operation::moba_forward, problem_, Backend::cuda));
        const auto run = [&](cudaStream_t stream) {
            must(moba_forward(problem_, q(), k(), v(), out(), lse(), selection(), on_device(workspace, stream)));
        };
        run(nullptr);
        check_cuda(cudaDeviceSynchronize(), "moba");
        check_rows(problem_, tensors_);
        const double routing = time_ms([&](cudaStream_t stream) {
            must(route(problem_, q(), k(), selection(), nullptr, on_device(workspace, stream)));
        });
        std::printf("%-18s moba_forward %8.4f  of it routing %8.4f\n", setting_.name, time_ms(run), routing);
        std::fflush(stdout);
    }

private:
    struct Algorithm {
        const char* name;
        std::size_t workspace;
        bool has_lists;
        std::function<Status(void*, cudaStream_t)> run;
    };
    std::vector<Algorithm> algorithms() const {
        const auto by = [this](cuda::ForwardAlgorithm algorithm) {
            return [this, algorithm](void* workspace, cudaStream_t stream) {
                return cuda::current_path_table().attention_forward(problem_, algorithm, q(), k(), v(), selection(),
                                                                    out(), lse(), workspace, stream);
            };
        };
        using cuda::ForwardAlgorithm;
        const auto workspace = cuda::current_path_table().attention_forward_workspace;
        const bool hopper = cuda::current_path() == cuda::CudaPath::hopper;
        std::vector<Algorithm> all = {{hopper ? "lists" : "lists (portable)",
                                       workspace(problem_, ForwardAlgorithm::lists), hopper,
                                       by(ForwardAlgorithm::lists)}};
        if (hopper && cuda::queries_can(problem_)) {
            all.push_back(
                {"queries", workspace(problem_, ForwardAlgorithm::queries), false, by(ForwardAlgorithm::queries)});
        }
        return all;
    }

    void print_lists(const DeviceBuffer& workspace) const {
        const cuda::ForwardPlan plan = cuda::make_forward_plan(problem_, cuda::hopper_forward_shape(problem_));
        const double lists = time_ms([&](cudaStream_t stream) {
            cuda::ListView view;
            for (std::int32_t chunk = 0; chunk < plan.lists.chunks(); ++chunk)
                must(cuda::build_lists(plan.lists, chunk, selection(), workspace.get(), stream, view));
        });
        std::printf(", of it lists %7.4f, %d windows in %d launches, %d tiles", lists, plan.lists.windows(),
                    plan.launches(), plan.lists.tiles_per_item);
    }

    double time_ms(const std::function<void(cudaStream_t)>& run) const {
        constexpr std::int64_t longest_in_graph = 8192;
        return setting_.n <= longest_in_graph ? graph_ms(run) : median_ms([&] { run(nullptr); });
    }

    static Execution on_device(const DeviceBuffer& workspace, cudaStream_t stream) {
        Execution execution;
        execution.backend = Backend::cuda;
        execution.stream = stream;
        execution.workspace = workspace.get();
        execution.workspace_bytes = workspace.bytes();
        return execution;
    }
    ConstTensor q() const { return as_const(contiguous_rows(problem_, tensors_.q.get())); }
    ConstTensor k() const { return as_const(contiguous_rows(problem_, tensors_.k.get())); }
    ConstTensor v() const { return as_const(contiguous_rows(problem_, tensors_.v.get())); }
    Tensor out() const { return contiguous_rows(problem_, tensors_.out.get()); }
    float* lse() const { return tensors_.lse.as<float>(); }
    std::int32_t* selection() const { return tensors_.selection.as<std::int32_t>(); }

    static Problem problem_of(const Setting& setting) {
        Problem problem = make_problem(setting.n, setting.heads, setting.d, setting.block, setting.topk);
        problem.batch = setting.batch;
        return problem;
    }

    Setting setting_;
    Problem problem_;
    Tensors tensors_;
};

void run(const Setting& setting) {
    const Bench bench(setting);
    bench.attention();
    if (setting.draw == Draw::uniform) bench.moba();
}

}  // namespace
}  // namespace mobalab::kernels

int main(int argc, char** argv) {
    using namespace mobalab::kernels;
    if (const Status s = backend_available(Backend::cuda); !s.ok()) {
        std::printf("%s\n", s.message.c_str());
        return 0;
    }
    const std::vector<std::string> names(argv + 1, argv + argc);
    try {
        const auto named = [&](const Setting& setting) {
            return std::find(names.begin(), names.end(), setting.name) != names.end();
        };
        for (const Setting& setting : settings) {
            if (names.empty() || named(setting)) run(setting);
        }
        for (const Setting& setting : other_shapes) {
            if (named(setting)) run(setting);
        }
    } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
        return 1;
    }
    return 0;
}
