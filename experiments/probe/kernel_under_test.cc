#include "experiments/probe/kernel_under_test.h"

#include <algorithm>
#include <vector>

#include "experiments/base/build_info.h"
#include "experiments/base/parallel_for.h"
#include "experiments/device/element_conversion.h"

namespace mobalab::experiments {
namespace {

using kernels::DataType;

// A host tensor in the dtype of the kernel, filled from fp32 (round to nearest even); fp32 is not copied.
class HostTensor {
public:
    HostTensor(std::span<const float> values, DataType dtype) : data_(values.data()) {
        if (dtype != DataType::fp32) {
            converted_.resize(values.size());
            store_as(dtype, values, converted_.data());
            data_ = converted_.data();
        }
    }
    const void* data() const { return data_; }

private:
    const void* data_;
    std::vector<std::uint16_t> converted_;
};

// One pooling when the keys arrive; every chunk is then a short problem that ends at the chunk's last query.
class CpuLoadedKeys : public LoadedKeys {
public:
    CpuLoadedKeys(const ProbeShape& shape, std::span<const float> keys) : problem_(problem_of(shape, shape.seq_len)) {
        const HostTensor converted(keys, shape.dtype);
        const auto elements = static_cast<std::size_t>(problem_.centroid_elements());
        centroids_.resize(elements * kernels::size_of(shape.dtype));
        check(kernels::compute_centroids(problem_, {.data = converted.data()}, centroids_.data(), execution_));
    }

    void route(std::span<const QueryChunk> chunks, std::span<const float> queries, std::int64_t topk,
               std::span<std::int32_t> selection) override {
        const HostTensor converted(queries, problem_.dtype);
        const auto* query = static_cast<const std::byte*>(converted.data());
        const std::size_t row_bytes = static_cast<std::size_t>(problem_.head_dim) * kernels::size_of(problem_.dtype);
        std::int32_t* selected = selection.data();
        for (const QueryChunk& chunk : chunks) {
            kernels::Problem problem = problem_;
            problem.topk = topk;
            problem.seqlen_q = chunk.rows;
            problem.seqlen_k = chunk.start + chunk.rows;
            // The centroids of a shorter sequence are the first ones of the longer: its partial last block, which
            // differs, is the own block of the last queries and never competes.
            check(kernels::route_with_centroids(problem, {.data = query}, centroids_.data(), selected, nullptr,
                                                execution_));
            widen_selection(selected, chunk.rows, problem.routed(), topk);
            query += static_cast<std::size_t>(chunk.rows) * row_bytes;
            selected += chunk.rows * (topk - 1);
        }
    }

private:
    kernels::Problem problem_;
    kernels::Execution execution_{.backend = kernels::Backend::cpu, .threads = 1};
    std::vector<std::byte> centroids_;
};

class CpuKernel : public KernelUnderTest {
public:
    explicit CpuKernel(int threads) : threads_(threads) {}

    std::string device() const override { return "cpu"; }
    int parallel_key_sets() const override { return threads_; }
    std::unique_ptr<LoadedKeys> load(const ProbeShape& shape, std::span<const float> keys) const override {
        return std::make_unique<CpuLoadedKeys>(shape, keys);
    }

private:
    int threads_;
};

}  // namespace

void widen_selection(std::int32_t* selection, std::int64_t rows, std::int64_t width, std::int64_t topk) {
    if (width == topk - 1) {
        return;
    }
    for (std::int64_t row = rows - 1; row >= 0; --row) {  // from the end: no row is written before it was moved
        std::int32_t* const to = selection + row * (topk - 1);
        std::copy_backward(selection + row * width, selection + (row + 1) * width, to + width);
        std::fill(to + width, to + topk - 1, -1);
    }
}

void LoadedKeys::route_needles(std::span<const QueryChunk> chunks, const sim::NeedleQueries& queries, std::int64_t topk,
                               std::span<std::int32_t> selection, std::span<std::uint8_t> feasible) {
    std::vector<float> built(static_cast<std::size_t>(queries.count() * queries.keys.head_dim));
    sim::build_needle_queries(queries, built, feasible);
    route(chunks, built, topk, selection);
}

std::string KernelUnderTest::processor() const {
    return cpu_name();
}

std::unique_ptr<LoadedKeys> KernelUnderTest::draw(const ProbeShape& shape, const sim::UnitRows& keys) const {
    // Fresh memory for every set of long sequences costs more (page faults) than drawing the keys.
    thread_local std::vector<float> drawn;
    drawn.resize(static_cast<std::size_t>(shape.seq_len * shape.head_dim));
    sim::fill_unit_rows(keys, 0, drawn);
    return load(shape, drawn);
}

std::int64_t KernelUnderTest::host_bytes(const ProbeShape& shape) const {
    return shape.seq_len * shape.head_dim * std::int64_t{sizeof(float)};
}

kernels::Problem problem_of(const ProbeShape& shape, std::int64_t rows) {
    kernels::Problem problem;
    problem.seqlen_q = rows;
    problem.seqlen_k = shape.seq_len;
    problem.head_dim = shape.head_dim;
    problem.block_size = shape.block_size;
    problem.dtype = shape.dtype;
    problem.scorer = shape.scorer;
    return problem;
}

std::unique_ptr<KernelUnderTest> cpu_kernel(int threads) {
    return std::make_unique<CpuKernel>(thread_count(threads));
}

std::unique_ptr<KernelUnderTest> kernel_for_device(const std::string& device, int threads) {
    return device == "cuda" ? cuda_kernel(threads) : cpu_kernel(threads);
}

}  // namespace mobalab::experiments
