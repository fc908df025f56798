// Times attention_backward (and key_conv_backward) of the CUDA backend; medians of CUDA events. Gradients of a few keys
// and queries of every shape are checked in double precision first, over the GPU's own routing, outputs and
// log-sum-exps.
//
//   cuda_backward_bench [SEQLEN BLOCK_SIZE]...   without arguments: the table of tests/perf/NOTES_cuda_backward.md
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "kernels/kernels.h"
#include "tests/kernels/cuda/cuda_memory.h"
#include "tests/perf/cuda_bench.cuh"

namespace mobalab::kernels {
namespace {

using namespace bench_support;
using namespace testing_support;

/// Tokens before `shifted` of every sequence of `seqlen` have one direction, of `row` elements, added.
__global__ void fill_shifted(__nv_bfloat16* out, std::int64_t count, std::uint64_t seed, std::int64_t row,
                             std::int64_t seqlen, std::int64_t shifted) {
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
        const bool shift = i / row % seqlen < shifted;
        out[i] = __float2bfloat16(normal(i, seed) + (shift ? normal(i % row, 99) : 0.0f));
    }
}

/// Device tensors of one problem, contiguous.
struct Tensors {
    Problem p;
    DeviceBuffer q, k, v, out, d_out, dq, dk, dv, lse, selection;

    Tensors(const Problem& problem, bool skewed)
        : p(problem),
          q(bytes()),
          k(bytes()),
          v(bytes()),
          out(bytes()),
          d_out(bytes()),
          dq(bytes()),
          dk(bytes()),
          dv(bytes()),
          lse(static_cast<std::size_t>(p.tokens_q() * p.heads_q) * sizeof(float)),
          selection(static_cast<std::size_t>(p.tokens_q() * p.heads_q * p.routed()) * sizeof(std::int32_t)) {
        const auto fill = [&](const DeviceBuffer& to, std::uint64_t seed, std::int64_t shifted) {
            fill_shifted<<<1024, 256>>>(to.as<__nv_bfloat16>(), p.tokens_q() * p.heads_q * p.head_dim, seed,
                                        p.heads_q * p.head_dim, p.seqlen_q, shifted);
        };
        fill(q, 1, skewed ? p.seqlen_q : 0);
        fill(k, 2, skewed ? p.seqlen_q / 50 : 0);
        fill(v, 3, 0);
        fill(d_out, 4, 0);
    }
    std::size_t bytes() const { return static_cast<std::size_t>(p.tokens_q() * p.heads_q * p.head_dim) * 2; }
    ConstTensor in(const DeviceBuffer& buffer) const { return as_const(to(buffer)); }
    Tensor to(const DeviceBuffer& buffer) const { return contiguous_rows(p, buffer.get()); }
};

/// One sequence and head, in double: [tokens][head_dim].
std::vector<double> slice(const Tensors& t, const DeviceBuffer& buffer, std::int64_t b, std::int64_t head) {
    const auto width = static_cast<std::size_t>(t.p.head_dim), rows = static_cast<std::size_t>(t.p.seqlen_q);
    const std::size_t pitch = static_cast<std::size_t>(t.p.heads_q) * width;
    std::vector<std::uint16_t> bits(rows * width);
    const std::uint16_t* const from = buffer.as<std::uint16_t>() + static_cast<std::size_t>(b) * rows * pitch +
                                      static_cast<std::size_t>(head) * width;
    check_cuda(cudaMemcpy2D(bits.data(), width * 2, from, pitch * 2, width * 2, rows, cudaMemcpyDeviceToHost), "slice");
    std::vector<double> values(bits.size());
    for (std::size_t i = 0; i < bits.size(); ++i) values[i] = from_bits(bits[i], t.p.dtype);
    return values;
}

class Judge {
public:
    Judge(const Tensors& t, std::int64_t b, std::int64_t head)
        : p_(t.p),
          q_(slice(t, t.q, b, head)),
          k_(slice(t, t.k, b, head)),
          v_(slice(t, t.v, b, head)),
          out_(slice(t, t.out, b, head)),
          d_out_(slice(t, t.d_out, b, head)),
          lse_(static_cast<std::size_t>(p_.seqlen_q)),
          selection_(static_cast<std::size_t>(p_.seqlen_q * p_.routed())) {
        const std::int64_t first = head * p_.tokens_q() + b * p_.seqlen_q;
        check_cuda(cudaMemcpy(lse_.data(), t.lse.as<float>() + first, lse_.size() * 4, cudaMemcpyDeviceToHost), "lse");
        check_cuda(cudaMemcpy(selection_.data(), t.selection.as<std::int32_t>() + first * p_.routed(),
                              selection_.size() * 4, cudaMemcpyDeviceToHost),
                   "selection");
    }
    std::vector<double> dq(std::int64_t row) const {
        std::vector<double> sum(static_cast<std::size_t>(p_.head_dim));
        for (std::int64_t key = 0; key <= row; ++key) {
            if (sees(row, key)) add(sum, d_score(row, key) * scale(), k_, key);
        }
        return sum;
    }
    std::vector<double> dk(std::int64_t key) const {
        std::vector<double> sum(static_cast<std::size_t>(p_.head_dim));
        for (std::int64_t row = key; row < p_.seqlen_q; ++row) {
            if (sees(row, key)) add(sum, d_score(row, key) * scale(), q_, row);
        }
        return sum;
    }
    std::vector<double> dv(std::int64_t key) const {
        std::vector<double> sum(static_cast<std::size_t>(p_.head_dim));
        for (std::int64_t row = key; row < p_.seqlen_q; ++row) {
            if (sees(row, key)) add(sum, probability(row, key), d_out_, row);
        }
        return sum;
    }

private:
    double scale() const { return 1.0 / std::sqrt(static_cast<double>(p_.head_dim)); }
    bool sees(std::int64_t row, std::int64_t key) const {
        const std::int64_t block = key / p_.block_size;
        const auto first = selection_.begin() + row * p_.routed();
        return block == row / p_.block_size || std::find(first, first + p_.routed(), block) != first + p_.routed();
    }
    double dot(const std::vector<double>& a, std::int64_t i, const std::vector<double>& b, std::int64_t j) const {
        double sum = 0.0;
        for (std::int64_t e = 0; e < p_.head_dim; ++e) {
            sum += a[static_cast<std::size_t>(i * p_.head_dim + e)] * b[static_cast<std::size_t>(j * p_.head_dim + e)];
        }
        return sum;
    }
    void add(std::vector<double>& sum, double weight, const std::vector<double>& rows, std::int64_t i) const {
        for (std::size_t e = 0; e < sum.size(); ++e) {
            sum[e] += weight * rows[static_cast<std::size_t>(i) * sum.size() + e];
        }
    }
    double probability(std::int64_t row, std::int64_t key) const {
        return std::exp(scale() * dot(q_, row, k_, key) - lse_[static_cast<std::size_t>(row)]);
    }
    double d_score(std::int64_t row, std::int64_t key) const {
        return probability(row, key) * (dot(d_out_, row, v_, key) - dot(d_out_, row, out_, row));
    }

    Problem p_;
    std::vector<double> q_, k_, v_, out_, d_out_;
    std::vector<float> lse_;
    std::vector<std::int32_t> selection_;
};

void check_row(const char* what, const std::vector<double>& got, std::int64_t row, const std::vector<double>& want) {
    double difference = 0.0, norm = 0.0;
    for (std::size_t e = 0; e < want.size(); ++e) {
        const double d = got[static_cast<std::size_t>(row) * want.size() + e] - want[e];
        difference += d * d;
        norm += want[e] * want[e];
    }
    // Rows with hardly any gradient have nothing to be relative to.
    if (std::sqrt(difference) <= 2e-2 * std::sqrt(norm) + 1e-3) return;
    throw std::runtime_error(std::string(what) + " of row " + std::to_string(row) + ": relative error " +
                             std::to_string(std::sqrt(difference / norm)));
}

void check_gradients(const Tensors& t) {
    const std::int64_t b = t.p.batch - 1, head = t.p.heads_q / 2, n = t.p.seqlen_q;
    const Judge judge(t, b, head);
    const std::vector<double> dq = slice(t, t.dq, b, head), dk = slice(t, t.dk, b, head), dv = slice(t, t.dv, b, head);
    for (const std::int64_t row : {std::int64_t{1}, n / 3, n / 2 + 77, n - 1}) {
        check_row("dq", dq, row, judge.dq(row));
        check_row("dk", dk, row, judge.dk(row));
        check_row("dv", dv, row, judge.dv(row));
    }
}

void bench(std::int64_t n, std::int64_t heads, std::int64_t d, std::int64_t block, std::int64_t k, bool skewed) {
    const Problem p = make_problem(n, heads, d, block, k);
    const Tensors t(p, skewed);
    Execution execution;
    execution.backend = Backend::cuda;
    {
        const DeviceBuffer workspace(workspace_size(Operation::moba_forward, p, Backend::cuda));
        execution.workspace = workspace.get();
        execution.workspace_bytes = workspace.bytes();
        must(moba_forward(p, t.in(t.q), t.in(t.k), t.in(t.v), t.to(t.out), t.lse.as<float>(),
                          t.selection.as<std::int32_t>(), execution));
        check_cuda(cudaDeviceSynchronize(), "forward");
    }
    const DeviceBuffer workspace(workspace_size(Operation::attention_backward, p, Backend::cuda));
    execution.workspace = workspace.get();
    execution.workspace_bytes = workspace.bytes();
    const auto backward = [&] {
        must(attention_backward(p, t.in(t.q), t.in(t.k), t.in(t.v), t.in(t.out), t.in(t.d_out), t.lse.as<float>(),
                                t.selection.as<std::int32_t>(), t.to(t.dq), t.to(t.dk), t.to(t.dv), execution));
    };
    backward();
    check_cuda(cudaDeviceSynchronize(), "backward");
    check_gradients(t);
    const double ms = median_ms(backward);
    // Pairs of query and key that are attended to, own blocks by half; 10 d operations each.
    const double blocks = static_cast<double>(n) / static_cast<double>(block);
    double kept = 0.0;
    for (double own = 0.0; own < blocks; ++own) kept += std::min(own, static_cast<double>(p.routed())) + 0.5;
    const double pairs = static_cast<double>(2 * heads) * kept * static_cast<double>(block * block);
    const double mib = static_cast<double>(workspace.bytes() + 3 * t.bytes()) / 1048576.0;
    std::printf("%7ld %3ld %4ld %4ld %3ld %s | %8.3f ms %5.0f TFLOP/s | %6.0f MiB above the inputs\n", n, heads, d,
                block, k, skewed ? "skewed " : "uniform", ms, pairs * 10.0 * static_cast<double>(d) / (ms * 1e9), mib);
    std::fflush(stdout);
}

void bench_conv(std::int64_t n, int width) {
    Problem p;
    p.batch = 2;
    p.seqlen_q = p.seqlen_k = n;
    p.heads_q = p.heads_k = 16;
    p.head_dim = 128;
    p.dtype = DataType::bf16;
    const Tensors t(p, false);
    const DeviceBuffer weight(static_cast<std::size_t>(p.heads_k * p.head_dim * width) * sizeof(float)),
        d_weight(weight.bytes());
    weight.write(std::vector<float>(weight.bytes() / sizeof(float), 0.3F));
    const DeviceBuffer workspace(workspace_size(Operation::key_conv_backward, p, Backend::cuda));
    Execution execution;
    execution.backend = Backend::cuda;
    execution.workspace = workspace.get();
    execution.workspace_bytes = workspace.bytes();
    const double ms = median_ms([&] {
        must(key_conv_backward(p, t.in(t.k), weight.as<float>(), width, t.in(t.d_out), t.to(t.dk), d_weight.as<float>(),
                               execution));
    });
    std::printf("%7ld key_conv_backward, width %d | %8.3f ms %5.0f GB/s\n", n, width, ms,
                3.0 * static_cast<double>(t.bytes()) / (ms * 1e6));
}

void bench_all() {
    bench(8192, 16, 128, 128, 8, false);
    bench(65536, 16, 128, 128, 8, false);
    bench(65536, 16, 128, 64, 8, false);
    bench(65536, 16, 128, 256, 8, false);
    bench(65536, 32, 64, 128, 8, false);
    bench(65536, 16, 128, 128, 8, true);
    bench(524288, 16, 128, 128, 8, false);
    bench_conv(65536, 3);
}

}  // namespace
}  // namespace mobalab::kernels

int main(int argc, char** argv) {
    try {
        std::printf(
            "      n   h    d    B   k selection | time, operations on attended pairs | outputs and workspace\n");
        for (int i = 1; i + 1 < argc; i += 2) {
            mobalab::kernels::bench(std::atol(argv[i]), 16, 128, std::atol(argv[i + 1]), 8, false);
        }
        if (argc == 1) mobalab::kernels::bench_all();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "cuda_backward_bench: %s\n", error.what());
        return 1;
    }
    return 0;
}
