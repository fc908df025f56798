// Flop rates of the fast CPU path on one thread against a bare Eigen product, interleaved in one run: every repetition
// times the product and then the kernel by the thread's CPU clock, and the medians are compared. Only useful flops
// count for the kernels: visible keys and real candidates. `of_eigen` is the ratio of the rates.
#include <benchmark/benchmark.h>
#include <time.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <vector>

#include "kernels/kernels.h"

namespace mobalab::kernels {
namespace {

using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::int64_t repetitions = 7;

double thread_seconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
}

void require(const Status& status) {
    if (!status.ok()) throw std::runtime_error(status.message);
}

/// Random tensors of one head, in the problem's dtype.
struct Tensors {
    Problem p;
    std::vector<float> q, k, v, d_out;
    std::vector<std::uint16_t> q16, k16, v16;
    std::vector<std::int32_t> selection;
    std::vector<float> out, lse, dq, dk, dv;

    Tensors(std::int64_t seqlen, std::int64_t head_dim, std::int64_t block_size, DataType dtype) {
        p.seqlen_q = p.seqlen_k = seqlen;
        p.head_dim = head_dim;
        p.block_size = block_size;
        p.dtype = dtype;
        std::mt19937 engine(1);
        std::normal_distribution<float> normal;
        const auto count = static_cast<std::size_t>(seqlen * head_dim);
        for (std::vector<float>* tensor : {&q, &k, &v, &d_out}) {
            tensor->resize(count);
            for (float& x : *tensor) x = normal(engine);
        }
        q16 = narrow(q);
        k16 = narrow(k);
        v16 = narrow(v);
        selection.resize(static_cast<std::size_t>(seqlen * p.routed()));
        for (std::vector<float>* tensor : {&out, &dq, &dk, &dv}) tensor->resize(count);
        lse.resize(static_cast<std::size_t>(seqlen));
    }

    static std::vector<std::uint16_t> narrow(const std::vector<float>& values) {
        std::vector<std::uint16_t> result;
        for (const float x : values) result.push_back(Eigen::numext::bit_cast<std::uint16_t>(Eigen::bfloat16(x)));
        return result;
    }

    ConstTensor tensor(const std::vector<float>& wide, const std::vector<std::uint16_t>& narrow) const {
        return {p.dtype == DataType::fp32 ? static_cast<const void*>(wide.data()) : narrow.data()};
    }

    double routing_flops() const {
        double candidates = 0.0;
        for (std::int64_t t = 0; t < p.seqlen_q; ++t) candidates += static_cast<double>(t / p.block_size);
        return 2.0 * static_cast<double>(p.head_dim) * candidates;
    }

    double visible_keys() const {
        double keys = 0.0;
        for (std::int64_t t = 0; t < p.seqlen_q; ++t) {
            keys += static_cast<double>(std::min(p.routed(), t / p.block_size) * p.block_size + t % p.block_size + 1);
        }
        return keys;
    }
};

/// A bare product of the routing's full shape, N x d times d x n, in the layout that is fastest for it.
class EigenPeer {
public:
    explicit EigenPeer(const Problem& p)
        : a_(RowMatrix::Random(p.seqlen_q, p.head_dim)),
          b_(RowMatrix::Random(p.blocks(), p.head_dim)),
          c_(p.seqlen_q, p.blocks()) {}

    void run() {
        c_.noalias() = a_ * b_.transpose();
        benchmark::DoNotOptimize(c_.data());
    }
    double flops() const {
        return 2.0 * static_cast<double>(c_.rows()) * static_cast<double>(c_.cols()) * static_cast<double>(a_.cols());
    }

private:
    RowMatrix a_, b_, c_;
};

template <typename Kernel>
void against_eigen(benchmark::State& state, const Problem& p, double flops, const Kernel& kernel) {
    EigenPeer peer(p);
    std::vector<double> peer_seconds;
    std::vector<double> seconds;
    peer.run();
    for (auto _ : state) {
        const double start = thread_seconds();
        peer.run();
        const double middle = thread_seconds();
        kernel();
        const double end = thread_seconds();
        peer_seconds.push_back(middle - start);
        seconds.push_back(end - middle);
        state.SetIterationTime(end - middle);
    }
    const double rate = flops / median(seconds);
    const double peer_rate = peer.flops() / median(peer_seconds);
    state.counters["gflops"] = rate * 1e-9;
    state.counters["eigen_gflops"] = peer_rate * 1e-9;
    state.counters["of_eigen"] = rate / peer_rate;
}

Tensors make(const benchmark::State& state) {
    return {state.range(0), state.range(1), state.range(2), static_cast<DataType>(state.range(3))};
}

const Execution one_thread = {.backend = Backend::cpu, .threads = 1};

void routing(benchmark::State& state) {
    Tensors t = make(state);
    against_eigen(state, t.p, t.routing_flops(), [&] {
        require(route(t.p, t.tensor(t.q, t.q16), t.tensor(t.k, t.k16), t.selection.data(), nullptr, one_thread));
    });
}

/// By another scorer: `gflops` counts the products of all its parts and sub-blocks.
void routing_scorer(benchmark::State& state) {
    Tensors t = make(state);
    t.p.scorer = {static_cast<ScorerKind>(state.range(4)), state.range(5), 0};
    const auto products = static_cast<double>(parts_of(t.p.scorer.kind) * t.p.scorer.sub_blocks);
    against_eigen(state, t.p, products * t.routing_flops(), [&] {
        require(route(t.p, t.tensor(t.q, t.q16), t.tensor(t.k, t.k16), t.selection.data(), nullptr, one_thread));
    });
}

/// The last 512 queries against all keys: what a probe of a long context calls again and again.
void routing_chunk(benchmark::State& state) {
    Tensors t = make(state);
    constexpr std::int64_t rows = 512;
    std::vector<float> centroids(static_cast<std::size_t>(t.p.blocks() * t.p.head_dim));
    require(compute_centroids(t.p, {t.k.data()}, centroids.data(), one_thread));
    Problem chunk = t.p;
    chunk.seqlen_q = rows;
    const double candidates = static_cast<double>(rows) * (static_cast<double>(t.p.seqlen_k) - rows / 2.0) /
                              static_cast<double>(t.p.block_size);
    const float* q = t.q.data() + (t.p.seqlen_q - rows) * t.p.head_dim;
    against_eigen(state, t.p, 2.0 * static_cast<double>(t.p.head_dim) * candidates, [&] {
        require(route_with_centroids(chunk, {q}, centroids.data(), t.selection.data(), nullptr, one_thread));
    });
}

void forward(benchmark::State& state) {
    Tensors t = make(state);
    const ConstTensor q = t.tensor(t.q, t.q16);
    const ConstTensor k = t.tensor(t.k, t.k16);
    require(route(t.p, q, k, t.selection.data(), nullptr, one_thread));
    against_eigen(state, t.p, 4.0 * static_cast<double>(t.p.head_dim) * t.visible_keys(), [&] {
        require(attention_forward(t.p, q, k, t.tensor(t.v, t.v16), t.selection.data(), {t.out.data()}, t.lse.data(),
                                  one_thread));
    });
}

void backward(benchmark::State& state) {
    Tensors t = make(state);
    require(moba_forward(t.p, {t.q.data()}, {t.k.data()}, {t.v.data()}, {t.out.data()}, t.lse.data(),
                         t.selection.data(), one_thread));
    against_eigen(state, t.p, 10.0 * static_cast<double>(t.p.head_dim) * t.visible_keys(), [&] {
        require(attention_backward(t.p, {t.q.data()}, {t.k.data()}, {t.v.data()}, {t.out.data()}, {t.d_out.data()},
                                   t.lse.data(), t.selection.data(), {t.dq.data()}, {t.dk.data()}, {t.dv.data()},
                                   one_thread));
    });
}

constexpr auto fp32 = static_cast<std::int64_t>(DataType::fp32);
constexpr auto bf16 = static_cast<std::int64_t>(DataType::bf16);

void shapes(benchmark::internal::Benchmark* b) {
    b->ArgNames({"N", "d", "B", "dtype"})->UseManualTime()->Iterations(repetitions)->Unit(benchmark::kMillisecond);
}

BENCHMARK(routing)
    ->Apply(shapes)
    ->Args({32768, 128, 64, fp32})
    ->Args({32768, 128, 64, bf16})
    ->Args({32768, 128, 16, fp32})
    ->Args({32768, 64, 64, fp32});
BENCHMARK(routing_scorer)
    ->ArgNames({"N", "d", "B", "dtype", "scorer", "sub_blocks"})
    ->UseManualTime()
    ->Iterations(repetitions)
    ->Unit(benchmark::kMillisecond)
    ->Args({32768, 128, 64, fp32, static_cast<std::int64_t>(ScorerKind::mean), 1})
    ->Args({32768, 128, 64, fp32, static_cast<std::int64_t>(ScorerKind::quest), 1})
    ->Args({32768, 128, 64, fp32, static_cast<std::int64_t>(ScorerKind::max), 1})
    ->Args({32768, 128, 64, fp32, static_cast<std::int64_t>(ScorerKind::submean), 2})
    ->Args({32768, 128, 64, fp32, static_cast<std::int64_t>(ScorerKind::submean), 4})
    ->Args({32768, 128, 64, fp32, static_cast<std::int64_t>(ScorerKind::submean), 16})
    ->Args({32768, 128, 64, fp32, static_cast<std::int64_t>(ScorerKind::random), 1});
BENCHMARK(routing_chunk)->Apply(shapes)->Args({32768, 128, 64, fp32})->Args({32768, 64, 16, fp32});
BENCHMARK(forward)
    ->Apply(shapes)
    ->Args({32768, 128, 64, fp32})
    ->Args({32768, 128, 64, bf16})
    ->Args({32768, 128, 16, fp32})
    ->Args({32768, 128, 256, fp32});
BENCHMARK(backward)->Apply(shapes)->Args({32768, 128, 64, fp32});

}  // namespace
}  // namespace mobalab::kernels

BENCHMARK_MAIN();
