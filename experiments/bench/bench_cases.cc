#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "analysis/routing_point.h"
#include "experiments/base/check.h"
#include "experiments/base/parallel_for.h"
#include "experiments/bench/bench.h"
#include "experiments/bench/bench_rows.h"
#include "experiments/device/element_conversion.h"
#include "sim/engine/engine.h"

namespace mobalab::experiments {
namespace {

using kernels::ConstTensor;
using kernels::Tensor;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::uint64_t seed = 1;
constexpr std::int64_t tile_rows = 128;
constexpr int conv_width = 4;

// A tensor of the dtype under test, filled with unit vectors or zero.
class BenchTensor {
public:
    BenchTensor(const BenchShape& shape, std::int64_t number) : BenchTensor(shape) {
        store_as(shape.dtype, bench_rows(number, 0, shape.rows(), shape.head_dim), bytes_.data());
    }
    explicit BenchTensor(const BenchShape& shape)
        : bytes_(static_cast<std::size_t>(shape.rows() * shape.head_dim) * kernels::size_of(shape.dtype)) {}

    ConstTensor in() const { return {.data = bytes_.data()}; }
    Tensor out() { return {.data = bytes_.data()}; }
    std::byte* data() { return bytes_.data(); }
    std::size_t size() const { return bytes_.size(); }

private:
    std::vector<std::byte> bytes_;
};

// Products of [128, inner] by [inner, columns] over all threads: what the machine gives without any routing around it.
class BareProduct {
public:
    BareProduct(std::int64_t rows, std::int64_t inner, std::int64_t columns, int threads)
        : left_(RowMajor::Random(rows, inner)), right_(RowMajor::Random(columns, inner)), threads_(threads) {}

    double flops() const {
        return 2.0 * static_cast<double>(left_.rows()) * static_cast<double>(left_.cols()) *
               static_cast<double>(right_.rows());
    }
    void operator()() const {
        const std::int64_t tiles = (left_.rows() + tile_rows - 1) / tile_rows;
        const std::int64_t workers = std::min<std::int64_t>(tiles, threads_);
        parallel_for(static_cast<std::size_t>(workers), threads_, [&](std::size_t worker) {
            RowMajor product(tile_rows, right_.rows());
            for (std::int64_t tile = static_cast<std::int64_t>(worker); tile < tiles; tile += workers) {
                const std::int64_t rows = std::min(tile_rows, left_.rows() - tile * tile_rows);
                product.topRows(rows).noalias() = left_.middleRows(tile * tile_rows, rows) * right_.transpose();
            }
        });
    }

private:
    RowMajor left_;
    RowMajor right_;
    int threads_;
};

// All tensors of one shape, shared by its cases.
struct CpuTensors {
    explicit CpuTensors(const BenchShape& shape)
        : problem(problem_of(shape)),
          q(shape, 0),
          k(shape, 1),
          v(shape, 2),
          d_out(shape, 3),
          out(shape),
          dq(shape),
          dk(shape),
          dv(shape),
          conv_weight(static_cast<std::size_t>(shape.heads * shape.head_dim * conv_width), 0.25F),
          d_conv_weight(conv_weight.size()),
          lse(static_cast<std::size_t>(shape.rows())),
          selection(static_cast<std::size_t>(shape.rows() * problem.routed())) {
        execution.threads = shape.threads;
        centroids.resize(static_cast<std::size_t>(problem.blocks() * shape.heads * shape.head_dim) *
                         kernels::size_of(shape.dtype));
    }

    void pool() { check(kernels::compute_centroids(problem, k.in(), centroids.data(), execution)); }
    void route() { check(kernels::route(problem, q.in(), k.in(), selection.data(), nullptr, execution)); }
    void forward() {
        check(kernels::attention_forward(problem, q.in(), k.in(), v.in(), selection.data(), out.out(), lse.data(),
                                         execution));
    }
    void backward() {
        check(kernels::attention_backward(problem, q.in(), k.in(), v.in(), out.in(), d_out.in(), lse.data(),
                                          selection.data(), dq.out(), dk.out(), dv.out(), execution));
    }
    void conv_forward() {
        check(kernels::key_conv_forward(problem, k.in(), conv_weight.data(), conv_width, dk.out(), execution));
    }
    void conv_backward() {
        check(kernels::key_conv_backward(problem, k.in(), conv_weight.data(), conv_width, d_out.in(), dk.out(),
                                         d_conv_weight.data(), execution));
    }
    void copy() { std::memcpy(dv.data(), k.data(), k.size()); }

    kernels::Problem problem;
    kernels::Execution execution{.backend = kernels::Backend::cpu};
    BenchTensor q, k, v, d_out, out, dq, dk, dv;
    std::vector<float> conv_weight, d_conv_weight, lse;
    std::vector<std::int32_t> selection;
    std::vector<std::byte> centroids;
};

BenchCase against_product(BenchCase bench, const BareProduct& product, std::string peer) {
    bench.peer = std::move(peer);
    bench.peer_flops = product.flops();
    bench.run_peer = product;
    return bench;
}

BenchCase against_copy(BenchCase bench, const std::shared_ptr<CpuTensors>& tensors) {
    bench.peer = "memcpy, one thread";
    bench.peer_bytes = 2.0 * static_cast<double>(tensors->k.size());
    bench.run_peer = [tensors] { tensors->copy(); };
    return bench;
}

}  // namespace

std::vector<BenchCase> cpu_kernel_cases(const BenchShape& shape) {
    const auto t = std::make_shared<CpuTensors>(shape);
    t->route();  // what attention and its gradients need
    t->forward();
    const int threads = thread_count(shape.threads);
    const std::int64_t past_blocks = t->problem.blocks() / shape.batch;
    const BareProduct scores(shape.rows(), shape.head_dim, past_blocks, threads);
    const BareProduct attention(shape.rows(), shape.head_dim, shape.topk * shape.block_size, threads);
    const std::string scores_text = fmt::format("Eigen product N x d x {}", past_blocks);
    const std::string attention_text = fmt::format("Eigen product N x d x {}", shape.topk * shape.block_size);
    const auto tensor_bytes = static_cast<double>(t->k.size());
    const double attended = attention_products(shape);
    return {against_copy({.name = "centroids", .shape = shape, .run = [t] { t->pool(); }, .bytes = tensor_bytes}, t),
            against_product({.name = "route",
                             .shape = shape,
                             .run = [t] { t->route(); },
                             .flops = 2.0 * routing_products(shape),
                             .bytes = 2.0 * tensor_bytes},
                            scores, scores_text),
            against_product({.name = "attention forward",
                             .shape = shape,
                             .run = [t] { t->forward(); },
                             .flops = 4.0 * attended,
                             .bytes = 4.0 * tensor_bytes},
                            attention, attention_text),
            against_product({.name = "attention backward",
                             .shape = shape,
                             .run = [t] { t->backward(); },
                             .flops = 10.0 * attended,
                             .bytes = 8.0 * tensor_bytes},
                            attention, attention_text),
            against_copy({.name = fmt::format("key convolution, width {}", conv_width),
                          .shape = shape,
                          .run = [t] { t->conv_forward(); },
                          .bytes = 2.0 * tensor_bytes},
                         t),
            against_copy({.name = fmt::format("key convolution backward, width {}", conv_width),
                          .shape = shape,
                          .run = [t] { t->conv_backward(); },
                          .bytes = 3.0 * tensor_bytes},
                         t)};
}

std::vector<BenchCase> simulation_cases(const BenchShape& shape) {
    std::vector<BenchCase> cases;
    for (const analysis::Model model : {analysis::Model::gaussian, analysis::Model::sphere, analysis::Model::vector}) {
        analysis::RoutingPoint point;
        point.model = model;
        point.head_dim = shape.head_dim;
        point.block_size = shape.block_size;
        point.seq_len = shape.seq_len;
        point.candidates = analysis::candidates_of_last_query(shape.seq_len, shape.block_size);
        point.topk = shape.topk;
        sim::Budget budget{.stop = {}, .seed = seed, .threads = shape.threads};
        budget.stop.max_trials = 32 * sim::chunk_trials(point);
        cases.push_back({.name = fmt::format("simulate {}, {} trials", to_string(model), budget.stop.max_trials),
                         .shape = shape,
                         .run = [point, budget] { sim::simulate(point, budget); }});
    }
    return cases;
}

}  // namespace mobalab::experiments
