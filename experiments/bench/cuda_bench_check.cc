// Is what the bench times right? A sample, against the CPU backend.
#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "experiments/bench/cuda_bench_tensors.h"
#include "experiments/device/element_conversion.h"

namespace mobalab::experiments {
namespace {

using kernels::DataType;
using kernels::Problem;

constexpr std::int64_t window_rows = 64;
constexpr double share_of_near_ties = 0.02;

// 2^-8 is half an ulp of bf16, relative. Scores: see gap_bound in tests/experiments/probe/selection_difference.h.
constexpr double rounding = 1.0 / 256.0;
constexpr double lse_tolerance = 1e-3;
constexpr double gradient_tolerance = 0.02;  // of the norm

void require(bool holds, const std::string& what) {
    if (!holds) {
        throw KernelError("bench: the CUDA kernels are not timed, for they are wrong: " + what);
    }
}

// Head and sequence under the magnifying glass; everything of it as the CPU backend wants it.
class HeadCopy {
public:
    explicit HeadCopy(const CudaBenchTensors& tensors) : tensors_(tensors), shape_(tensors.shape) {}

    // [seq_len, head_dim] of a tensor, elements as they are.
    std::vector<std::uint16_t> tensor(const DeviceMemory& memory) const {
        const std::size_t row = static_cast<std::size_t>(shape_.head_dim) * sizeof(std::uint16_t);
        const auto heads = static_cast<std::size_t>(shape_.heads);
        const auto first =
            static_cast<std::size_t>((shape_.batch - 1) * shape_.seq_len * shape_.heads + shape_.heads - 1);
        std::vector<std::uint16_t> head(static_cast<std::size_t>(shape_.seq_len * shape_.head_dim));
        check_cuda(cudaMemcpy2D(head.data(), row, memory.as<std::byte>() + first * row, heads * row, row,
                                static_cast<std::size_t>(shape_.seq_len), cudaMemcpyDeviceToHost),
                   "copying a head");
        return head;
    }

    // Rows [first, first + rows) of a result [heads, batch * seq_len, width].
    template <typename T>
    std::vector<T> rows(const DeviceMemory& memory, std::int64_t first, std::int64_t count, std::int64_t width) const {
        const std::int64_t tokens = shape_.batch * shape_.seq_len;
        const std::int64_t row = (shape_.heads - 1) * tokens + (shape_.batch - 1) * shape_.seq_len + first;
        std::vector<T> result(static_cast<std::size_t>(count * width));
        check_cuda(
            cudaMemcpy(result.data(), memory.as<T>() + row * width, result.size() * sizeof(T), cudaMemcpyDeviceToHost),
            "copying results");
        return result;
    }

    // Queries [first, first + count) of this head alone: a sequence that ends at the last of them.
    Problem window(std::int64_t first, std::int64_t count) const {
        Problem problem = tensors_.problem;
        problem.batch = problem.heads_q = problem.heads_k = 1;
        problem.seqlen_q = count;
        problem.seqlen_k = first + count;
        return problem;
    }
    kernels::Execution cpu() const { return {.backend = kernels::Backend::cpu, .threads = shape_.threads}; }
    std::int64_t element(std::int64_t row) const { return row * shape_.head_dim; }

private:
    const CudaBenchTensors& tensors_;
    const BenchShape& shape_;
};

std::vector<double> widened(const std::vector<std::uint16_t>& bits, DataType dtype) {
    std::vector<double> values(bits.size());
    std::transform(bits.begin(), bits.end(), values.begin(), [dtype](std::uint16_t x) {
        return dtype == DataType::bf16
                   ? static_cast<double>(static_cast<float>(Eigen::numext::bit_cast<Eigen::bfloat16>(x)))
                   : static_cast<double>(static_cast<float>(Eigen::numext::bit_cast<Eigen::half>(x)));
    });
    return values;
}

std::vector<std::uint16_t> magnitudes(std::vector<std::uint16_t> bits) {
    for (std::uint16_t& x : bits) {
        x &= 0x7fffU;  // both 16-bit types keep their sign in the highest bit
    }
    return bits;
}

// ||seen - expected|| / ||expected||.
double relative_error(const std::vector<double>& seen, const std::vector<double>& expected) {
    const Eigen::Map<const Eigen::VectorXd> a(seen.data(), std::ssize(seen));
    const Eigen::Map<const Eigen::VectorXd> b(expected.data(), std::ssize(expected));
    return (a - b).norm() / b.norm();
}

class BenchCheck {
public:
    BenchCheck(const CudaBenchTensors& tensors, const DeviceMemory& scores)
        : shape_(tensors.shape), tensors_(tensors), head_(tensors), scores_(scores), set_(tensors.first()) {
        q_ = head_.tensor(set_.q);
        k_ = head_.tensor(set_.k);
        v_ = head_.tensor(set_.v);
        out_ = head_.tensor(set_.out);
    }

    void check_window(std::int64_t first, std::int64_t count) const {
        const Problem problem = head_.window(first, count);
        const auto selection = head_.rows<std::int32_t>(set_.selection, first, count, problem.routed());
        check_routing(problem, first, selection);
        check_attention(problem, first, selection);
    }

    // Keys of the last block have no queries but those of their own block: their gradients are complete here.
    void check_gradients() const {
        const std::int64_t first = (shape_.seq_len - 1) / shape_.block_size * shape_.block_size;
        const std::int64_t count = shape_.seq_len - first;
        const Problem problem = head_.window(first, count);
        const auto selection = head_.rows<std::int32_t>(set_.selection, first, count, problem.routed());
        const auto lse = head_.rows<float>(set_.lse, first, count, 1);
        const std::vector<std::uint16_t> d_out = head_.tensor(set_.d_out);
        std::vector<std::uint16_t> dq(static_cast<std::size_t>(head_.element(count)));
        std::vector<std::uint16_t> dk(k_.size());
        std::vector<std::uint16_t> dv(k_.size());
        check(kernels::attention_backward(problem, {.data = at(q_, first)}, {.data = k_.data()}, {.data = v_.data()},
                                          {.data = at(out_, first)}, {.data = at(d_out, first)}, lse.data(),
                                          selection.data(), {.data = dq.data()}, {.data = dk.data()},
                                          {.data = dv.data()}, head_.cpu()));
        compare_gradient("dq", tensors_.dq, first, dq, 0);
        compare_gradient("dk", tensors_.dk, first, dk, first);
        compare_gradient("dv", tensors_.dv, first, dv, first);
    }

private:
    const std::uint16_t* at(const std::vector<std::uint16_t>& tensor, std::int64_t row) const {
        return tensor.data() + head_.element(row);
    }
    std::vector<double> values(const std::vector<std::uint16_t>& tensor, std::int64_t row, std::int64_t count) const {
        return widened({at(tensor, row), at(tensor, row + count)}, shape_.dtype);
    }

    void check_routing(const Problem& problem, std::int64_t first, const std::vector<std::int32_t>& selection) const {
        const std::int64_t count = problem.seqlen_q;
        std::vector<std::int32_t> expected(selection.size());
        std::vector<float> expected_scores(selection.size());
        check(kernels::route(problem, {.data = at(q_, first)}, {.data = k_.data()}, expected.data(),
                             expected_scores.data(), head_.cpu()));
        const auto scores = head_.rows<float>(scores_, first, count, problem.routed());
        const double bound = rounding * std::sqrt(2.0 / static_cast<double>(shape_.block_size));
        std::int64_t near_ties = 0;
        for (std::size_t i = 0; i < selection.size(); ++i) {
            near_ties += selection[i] != expected[i] ? 1 : 0;
            const bool close = scores[i] == expected_scores[i] ||  // -inf where candidates run out
                               std::abs(static_cast<double>(scores[i] - expected_scores[i])) <= bound;
            require(close, fmt::format(
                               "score {} of row {} is {}, not {}", i % static_cast<std::size_t>(problem.routed()),
                               first + static_cast<std::int64_t>(i) / problem.routed(), scores[i], expected_scores[i]));
        }
        require(static_cast<double>(near_ties) <= share_of_near_ties * static_cast<double>(selection.size()) + 1.0,
                fmt::format("{} of {} selected blocks at rows {} and on", near_ties, selection.size(), first));
    }

    void check_attention(const Problem& problem, std::int64_t first, const std::vector<std::int32_t>& selection) const {
        const std::int64_t count = problem.seqlen_q;
        std::vector<std::uint16_t> expected(static_cast<std::size_t>(head_.element(count)));
        std::vector<std::uint16_t> scale(expected.size());
        std::vector<float> lse(static_cast<std::size_t>(count));
        const auto attend = [&](const std::vector<std::uint16_t>& v, std::vector<std::uint16_t>& out) {
            check(kernels::attention_forward(problem, {.data = at(q_, first)}, {.data = k_.data()}, {.data = v.data()},
                                             selection.data(), {.data = out.data()}, lse.data(), head_.cpu()));
        };
        attend(v_, expected);
        attend(magnitudes(v_), scale);  // weights times |v|: what rounding of weights and partial results scales with
        const std::vector<double> seen = values(out_, first, count);
        const std::vector<double> right = widened(expected, shape_.dtype);
        const std::vector<double> size = widened(scale, shape_.dtype);
        for (std::size_t i = 0; i < seen.size(); ++i) {
            require(
                std::abs(seen[i] - right[i]) <= 2.0 * rounding * size[i],
                fmt::format("output element {} of row {} is {}, not {}", i % static_cast<std::size_t>(shape_.head_dim),
                            first + static_cast<std::int64_t>(i) / shape_.head_dim, seen[i], right[i]));
        }
        const auto seen_lse = head_.rows<float>(set_.lse, first, count, 1);
        for (std::size_t i = 0; i < lse.size(); ++i) {
            require(
                std::abs(static_cast<double>(seen_lse[i] - lse[i])) <= lse_tolerance,
                fmt::format("lse of row {} is {}, not {}", first + static_cast<std::int64_t>(i), seen_lse[i], lse[i]));
        }
    }

    void compare_gradient(const char* name, const DeviceMemory& seen, std::int64_t first,
                          const std::vector<std::uint16_t>& expected, std::int64_t expected_first) const {
        const std::int64_t count = shape_.seq_len - first;
        const double error =
            relative_error(values(head_.tensor(seen), first, count), values(expected, expected_first, count));
        require(error <= gradient_tolerance,
                fmt::format("{} of rows {} and on is off by {:.3g} of its norm, at most {}", name, first, error,
                            gradient_tolerance));
    }

    const BenchShape& shape_;
    const CudaBenchTensors& tensors_;
    HeadCopy head_;
    const DeviceMemory& scores_;
    const CudaBenchSet& set_;
    std::vector<std::uint16_t> q_, k_, v_, out_;
};

}  // namespace

void check_cuda_bench(const CudaBenchTensors& tensors, const DeviceMemory& scores, bool with_gradients) {
    const BenchCheck check(tensors, scores);
    const std::int64_t rows = std::min(window_rows, tensors.shape.seq_len);
    check.check_window((tensors.shape.seq_len - rows) / 2, rows);
    check.check_window(tensors.shape.seq_len - rows, rows);
    if (with_gradients) {
        check.check_gradients();
    }
}

}  // namespace mobalab::experiments
