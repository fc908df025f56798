#include "experiments/bench/cuda_bench_tensors.h"

#include <algorithm>

#include "experiments/base/parallel_for.h"
#include "experiments/bench/bench_rows.h"
#include "experiments/device/element_conversion.h"

namespace mobalab::experiments {
namespace {

using kernels::Operation;

constexpr std::int64_t slice_rows = 65536;
constexpr std::size_t cache_bytes = std::size_t{256} << 20U;  // several times any second-level cache
constexpr std::size_t most_sets = 8;

std::size_t elements(const BenchShape& shape) {
    return static_cast<std::size_t>(shape.rows() * shape.head_dim);
}

// Tensor number `number` of the run: unit rows, drawn slice by slice on all threads of the host.
void fill(const BenchShape& shape, std::int64_t number, DeviceMemory& memory) {
    const std::size_t row_bytes = static_cast<std::size_t>(shape.head_dim) * kernels::size_of(shape.dtype);
    memory.reserve(static_cast<std::size_t>(shape.rows()) * row_bytes);
    const std::int64_t slices = (shape.rows() + slice_rows - 1) / slice_rows;
    int device = 0;
    check_cuda(cudaGetDevice(&device), "current device");
    parallel_for(static_cast<std::size_t>(slices), thread_count(shape.threads), [&](std::size_t slice) {
        check_cuda(cudaSetDevice(device), "choosing the device");
        const std::int64_t first = static_cast<std::int64_t>(slice) * slice_rows;
        const std::int64_t count = std::min(slice_rows, shape.rows() - first);
        const std::vector<float> values = bench_rows(number, first, count, shape.head_dim);
        std::vector<std::uint16_t> stored(values.size());
        store_as(shape.dtype, values, stored.data());
        check_cuda(cudaMemcpy(memory.as<std::byte>() + static_cast<std::size_t>(first) * row_bytes, stored.data(),
                              stored.size() * sizeof(std::uint16_t), cudaMemcpyHostToDevice),
                   "copying tensors");
    });
}

}  // namespace

CudaBenchTensors::CudaBenchTensors(const BenchShape& bench_shape, bool with_gradients)
    : shape(bench_shape),
      problem(problem_of(bench_shape)),
      tensor_bytes(elements(bench_shape) * kernels::size_of(bench_shape.dtype)),
      selection_bytes(static_cast<std::size_t>(bench_shape.rows() * problem.routed()) * sizeof(std::int32_t)),
      copy_from_(copy_bytes),
      copy_to_(copy_bytes),
      sets_(std::clamp<std::size_t>(cache_bytes / tensor_bytes, 1, most_sets)) {
    std::int64_t number = 0;
    for (CudaBenchSet& set : sets_) {
        fill(shape, number++, set.q);
        fill(shape, number++, set.k);
        fill(shape, number++, set.v);
        set.out.reserve(tensor_bytes);
        set.lse.reserve(static_cast<std::size_t>(shape.rows()) * sizeof(float));
        set.selection.reserve(selection_bytes);
        if (with_gradients) {
            fill(shape, number++, set.d_out);
        }
    }
    for (DeviceMemory* gradient : {&dq, &dk, &dv}) {
        gradient->reserve(with_gradients ? tensor_bytes : 0);
    }
    dk.reserve(tensor_bytes);  // also what the key convolution writes
    const auto blocks = static_cast<std::size_t>(problem.blocks() * shape.heads * shape.head_dim);
    centroids_.reserve(blocks * kernels::size_of(shape.dtype));
    const std::vector<float> weight(static_cast<std::size_t>(shape.heads * shape.head_dim * bench_conv_width), 0.25F);
    conv_weight_.reserve(weight.size() * sizeof(float));
    d_conv_weight_.reserve(weight.size() * sizeof(float));
    check_cuda(cudaMemcpy(conv_weight_.as(), weight.data(), weight.size() * sizeof(float), cudaMemcpyHostToDevice),
               "copying weights");
}

kernels::Execution CudaBenchTensors::with_workspace(Operation operation) {
    workspace_.reserve(kernels::workspace_size(operation, problem, kernels::Backend::cuda));
    return {.backend = kernels::Backend::cuda,
            .stream = stream.get(),
            .workspace = workspace_.as(),
            .workspace_bytes = workspace_.bytes()};
}

void CudaBenchTensors::pool(CudaBenchSet& set) {
    check(kernels::compute_centroids(problem, {.data = set.k.as()}, centroids_.as(),
                                     with_workspace(Operation::centroids)));
}

void CudaBenchTensors::route(CudaBenchSet& set, float* scores) {
    check(kernels::route(problem, {.data = set.q.as()}, {.data = set.k.as()}, set.selection.as<std::int32_t>(), scores,
                         with_workspace(Operation::route)));
}

void CudaBenchTensors::attend(CudaBenchSet& set) {
    check(kernels::attention_forward(problem, {.data = set.q.as()}, {.data = set.k.as()}, {.data = set.v.as()},
                                     set.selection.as<std::int32_t>(), {.data = set.out.as()}, set.lse.as<float>(),
                                     with_workspace(Operation::attention_forward)));
}

void CudaBenchTensors::forward(CudaBenchSet& set) {
    check(kernels::moba_forward(problem, {.data = set.q.as()}, {.data = set.k.as()}, {.data = set.v.as()},
                                {.data = set.out.as()}, set.lse.as<float>(), set.selection.as<std::int32_t>(),
                                with_workspace(Operation::moba_forward)));
}

void CudaBenchTensors::compute_all(float* scores, bool with_gradients) {
    route(first(), scores);
    for (CudaBenchSet& set : sets_) {
        forward(set);
    }
    if (with_gradients) {
        backward(first());
    }
    stream.synchronize();
}

void CudaBenchTensors::backward(CudaBenchSet& set) {
    check(kernels::attention_backward(problem, {.data = set.q.as()}, {.data = set.k.as()}, {.data = set.v.as()},
                                      {.data = set.out.as()}, {.data = set.d_out.as()}, set.lse.as<float>(),
                                      set.selection.as<std::int32_t>(), {.data = dq.as()}, {.data = dk.as()},
                                      {.data = dv.as()}, with_workspace(Operation::attention_backward)));
}

void CudaBenchTensors::conv_forward(CudaBenchSet& set) {
    check(kernels::key_conv_forward(problem, {.data = set.k.as()}, conv_weight_.as<float>(), bench_conv_width,
                                    {.data = dk.as()}, with_workspace(Operation::key_conv_forward)));
}

void CudaBenchTensors::conv_backward(CudaBenchSet& set) {
    check(kernels::key_conv_backward(problem, {.data = set.k.as()}, conv_weight_.as<float>(), bench_conv_width,
                                     {.data = set.d_out.as()}, {.data = dk.as()}, d_conv_weight_.as<float>(),
                                     with_workspace(Operation::key_conv_backward)));
}

void CudaBenchTensors::copy() {
    check_cuda(cudaMemcpyAsync(copy_to_.as(), copy_from_.as(), copy_bytes, cudaMemcpyDeviceToDevice, stream.get()),
               "device copy");
}

double CudaBenchTensors::seconds(const std::function<void()>& run) const {
    start_.record(stream);
    run();
    stop_.record(stream);
    stop_.synchronize();
    float milliseconds = 0.0F;
    check_cuda(cudaEventElapsedTime(&milliseconds, start_.get(), stop_.get()), "event times");
    return static_cast<double>(milliseconds) * 1e-3;
}

}  // namespace mobalab::experiments
