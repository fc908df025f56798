#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include "experiments/base/parallel_for.h"
#include "experiments/device/cuda_resources.h"
#include "experiments/device/element_conversion.h"
#include "experiments/probe/kernel_under_test.h"
#include "sim/cuda/needle_queries.h"
#include "sim/cuda/unit_rows.h"

namespace mobalab::experiments {
namespace {

using kernels::Operation;

constexpr std::size_t element_bytes = 2;
constexpr std::int64_t slice_elements = std::int64_t{1} << 21;  // 4 MiB: long enough for the bus, short enough to stay
constexpr std::size_t most_building_bytes = std::size_t{64} << 20U;  // for queries that are built at once

/// Calls body(elements) with `data` as a pointer to the dtype's elements.
template <typename Body>
void with_elements(kernels::DataType dtype, void* data, const Body& body) {
    if (dtype == kernels::DataType::bf16) {
        body(static_cast<__nv_bfloat16*>(data));
    } else {
        body(static_cast<__half*>(data));
    }
}

// What one key set in flight needs. Memory stays from one key set to the next.
struct Lane {
    CudaStream stream;
    std::array<CudaEvent, 2> uploaded{CudaEvent(cudaEventDisableTiming), CudaEvent(cudaEventDisableTiming)};
    std::array<PinnedMemory, 2> host_slices;
    std::array<DeviceMemory, 2> slices;
    DeviceMemory centroids, queries, selection, workspace;
    DeviceMemory slots, feasible, building;
    PinnedMemory host_queries, host_slots, host_selection, host_feasible;

    kernels::Execution execution() const {
        return {.backend = kernels::Backend::cuda,
                .stream = stream.get(),
                .workspace = workspace.as(),
                .workspace_bytes = workspace.bytes()};
    }
    void reserve_workspace(Operation operation, const kernels::Problem& problem) {
        workspace.reserve(kernels::workspace_size(operation, problem, kernels::Backend::cuda));
    }
};

class Lanes {
public:
    std::unique_ptr<Lane> take() {
        {
            const std::lock_guard lock(mutex_);
            if (!free_.empty()) {
                std::unique_ptr<Lane> lane = std::move(free_.back());
                free_.pop_back();
                return lane;
            }
        }
        return std::make_unique<Lane>();
    }
    void give_back(std::unique_ptr<Lane> lane) {
        const std::lock_guard lock(mutex_);
        free_.push_back(std::move(lane));
    }

private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<Lane>> free_;
};

// Equal chunks in a row: one launch, one chunk a head.
struct ChunkGroup {
    QueryChunk chunk;
    std::int64_t count;
};

std::vector<ChunkGroup> grouped(std::span<const QueryChunk> chunks) {
    std::vector<ChunkGroup> groups;
    for (const QueryChunk& chunk : chunks) {
        if (!groups.empty() && groups.back().chunk == chunk) {
            ++groups.back().count;
        } else {
            groups.push_back({chunk, 1});
        }
    }
    return groups;
}

// Keys come to be on the device slice by slice, whole blocks each, and only their centroids stay there. Keys of the
// caller: while one slice is on its way the next is converted. All chunks of a call are launched before anything is
// waited for.
class CudaLoadedKeys : public LoadedKeys {
public:
    CudaLoadedKeys(const ProbeShape& shape, std::span<const float> keys, Lanes& lanes) : CudaLoadedKeys(shape, lanes) {
        for_each_slice([&](std::int64_t first, std::int64_t rows, std::size_t buffer) {
            upload_slice(keys, first, rows, buffer);
            pool_slice(first, rows, buffer);
        });
    }
    CudaLoadedKeys(const ProbeShape& shape, const sim::UnitRows& keys, Lanes& lanes) : CudaLoadedKeys(shape, lanes) {
        for_each_slice([&](std::int64_t first, std::int64_t rows, std::size_t) {
            lane_->slices[0].reserve(bytes_of(rows));
            with_elements(shape_.dtype, lane_->slices[0].as(), [&](auto* slice) {
                check_cuda(sim::cuda::fill_unit_rows(keys, first, slice, rows, lane_->stream.get()), "drawing keys");
            });
            pool_slice(first, rows, 0);
        });
    }
    CudaLoadedKeys(const CudaLoadedKeys&) = delete;
    CudaLoadedKeys& operator=(const CudaLoadedKeys&) = delete;
    ~CudaLoadedKeys() override {
        cudaStreamSynchronize(lane_->stream.get());
        lanes_.give_back(std::move(lane_));
    }

    void route(std::span<const QueryChunk> chunks, std::span<const float> queries, std::int64_t topk,
               std::span<std::int32_t> selection) override {
        if (selection.empty()) {
            return;
        }
        const std::size_t query_bytes = queries.size() * element_bytes;
        lane_->host_queries.reserve(query_bytes);
        lane_->queries.reserve(query_bytes);
        store_as(shape_.dtype, queries, lane_->host_queries.as());
        check_cuda(cudaMemcpyAsync(lane_->queries.as(), lane_->host_queries.as(), query_bytes, cudaMemcpyHostToDevice,
                                   lane_->stream.get()),
                   "copying queries");
        launch(chunks, topk, selection.size_bytes());
        lane_->stream.synchronize();
        fetch(chunks, topk, selection);
    }

    void route_needles(std::span<const QueryChunk> chunks, const sim::NeedleQueries& queries, std::int64_t topk,
                       std::span<std::int32_t> selection, std::span<std::uint8_t> feasible) override {
        build(queries);
        if (!selection.empty()) {
            launch(chunks, topk, selection.size_bytes());
        }
        lane_->stream.synchronize();
        std::memcpy(feasible.data(), lane_->host_feasible.as(), feasible.size_bytes());
        if (!selection.empty()) {
            fetch(chunks, topk, selection);
        }
    }

private:
    CudaLoadedKeys(const ProbeShape& shape, Lanes& lanes) : shape_(shape), lanes_(lanes), lane_(lanes.take()) {
        lane_->centroids.reserve(summary_bytes(shape.seq_len));
    }

    template <typename Body>
    void for_each_slice(const Body& body) {
        const std::int64_t whole_blocks = slice_elements / shape_.head_dim / shape_.block_size;
        const std::int64_t rows = std::max<std::int64_t>(1, whole_blocks) * shape_.block_size;
        for (std::int64_t first = 0, number = 0; first < shape_.seq_len; first += rows, ++number) {
            body(first, std::min(rows, shape_.seq_len - first), static_cast<std::size_t>(number % 2));
        }
    }

    /// Of the summaries of the first `rows` keys.
    std::size_t summary_bytes(std::int64_t rows) const {
        ProbeShape first = shape_;
        first.seq_len = rows;
        return static_cast<std::size_t>(problem_of(first, rows).centroid_elements()) * element_bytes;
    }

    std::size_t bytes_of(std::int64_t rows) const {
        return static_cast<std::size_t>(rows * shape_.head_dim) * element_bytes;
    }

    void upload_slice(std::span<const float> keys, std::int64_t first, std::int64_t rows, std::size_t buffer) {
        const std::size_t bytes = bytes_of(rows);
        lane_->uploaded[buffer].synchronize();  // the slice before the last is on the device
        lane_->host_slices[buffer].reserve(bytes);
        lane_->slices[buffer].reserve(bytes);
        store_as(shape_.dtype,
                 keys.subspan(static_cast<std::size_t>(first * shape_.head_dim),
                              static_cast<std::size_t>(rows * shape_.head_dim)),
                 lane_->host_slices[buffer].as());
        check_cuda(cudaMemcpyAsync(lane_->slices[buffer].as(), lane_->host_slices[buffer].as(), bytes,
                                   cudaMemcpyHostToDevice, lane_->stream.get()),
                   "copying keys");
        lane_->uploaded[buffer].record(lane_->stream);
    }

    void pool_slice(std::int64_t first, std::int64_t rows, std::size_t buffer) {
        ProbeShape slice = shape_;
        slice.seq_len = rows;
        const kernels::Problem problem = problem_of(slice, rows);
        lane_->reserve_workspace(Operation::centroids, problem);
        std::byte* centroids = lane_->centroids.as<std::byte>() + summary_bytes(first);
        check(kernels::compute_centroids(problem, {.data = lane_->slices[buffer].as()}, centroids, lane_->execution()));
    }

    // Queries and which of them are feasible, on the device; the latter on their way to the host.
    void build(const sim::NeedleQueries& queries) {
        const auto count = static_cast<std::size_t>(queries.count());
        const std::size_t slot_bytes = queries.slots.size() * sizeof(std::int64_t);
        const std::size_t bytes_a_query = sim::cuda::needle_query_bytes(queries);
        const std::size_t at_once = std::clamp<std::size_t>(most_building_bytes / bytes_a_query, 1, count);
        lane_->host_slots.reserve(slot_bytes);
        lane_->slots.reserve(slot_bytes);
        lane_->queries.reserve(bytes_of(queries.count()));
        lane_->feasible.reserve(count);
        lane_->host_feasible.reserve(count);
        lane_->building.reserve(at_once * bytes_a_query);
        const cudaStream_t stream = lane_->stream.get();
        std::memcpy(lane_->host_slots.as(), queries.slots.data(), slot_bytes);
        check_cuda(
            cudaMemcpyAsync(lane_->slots.as(), lane_->host_slots.as(), slot_bytes, cudaMemcpyHostToDevice, stream),
            "copying slots");
        for (std::size_t first = 0; first < count; first += at_once) {
            const auto number = static_cast<std::int64_t>(first);
            void* out = lane_->queries.as<std::byte>() + bytes_of(number);
            with_elements(shape_.dtype, out, [&](auto* elements) {
                check_cuda(sim::cuda::build_needle_queries(
                               queries, lane_->slots.as<std::int64_t>() + number * queries.cluster_size, number,
                               static_cast<std::int64_t>(std::min(at_once, count - first)), elements,
                               lane_->feasible.as<std::uint8_t>() + first, lane_->building.as(), stream),
                           "building queries");
            });
        }
        check_cuda(
            cudaMemcpyAsync(lane_->host_feasible.as(), lane_->feasible.as(), count, cudaMemcpyDeviceToHost, stream),
            "copying which queries are feasible");
    }

    kernels::Problem problem_of_group(const ChunkGroup& group, std::int64_t topk) const {
        ProbeShape past = shape_;  // ends at the chunk's last query; its centroids are the first of all
        past.seq_len = group.chunk.start + group.chunk.rows;
        kernels::Problem problem = problem_of(past, group.chunk.rows);
        problem.heads_q = group.count;
        problem.topk = topk;
        return problem;
    }

    // The selection that arrived on the host.
    void fetch(std::span<const QueryChunk> chunks, std::int64_t topk, std::span<std::int32_t> selection) const {
        std::memcpy(selection.data(), lane_->host_selection.as(), selection.size_bytes());
        std::int32_t* selected = selection.data();
        for (const ChunkGroup& group : grouped(chunks)) {
            const std::int64_t rows = group.count * group.chunk.rows;
            widen_selection(selected, rows, problem_of_group(group, topk).routed(), topk);
            selected += rows * (topk - 1);
        }
    }

    // Routes the queries that are on the device; the selection is on its way to the host.
    void launch(std::span<const QueryChunk> chunks, std::int64_t topk, std::size_t selection_bytes) {
        const std::vector<ChunkGroup> groups = grouped(chunks);
        lane_->host_selection.reserve(selection_bytes);
        lane_->selection.reserve(selection_bytes);
        for (const ChunkGroup& group : groups) {
            lane_->reserve_workspace(Operation::route_with_centroids, problem_of_group(group, topk));
        }
        const cudaStream_t stream = lane_->stream.get();
        // A row that no kernel writes must not look like one of the last call.
        check_cuda(cudaMemsetAsync(lane_->selection.as(), 0x80, selection_bytes, stream), "clearing the selection");
        std::int64_t row = 0;
        for (const ChunkGroup& group : groups) {
            const kernels::Problem problem = problem_of_group(group, topk);
            const std::byte* queries = lane_->queries.as<std::byte>() + bytes_of(row);
            // Head h is the h-th of the equal chunks, and so is the kernel's order of the selection.
            check(kernels::route_with_centroids(
                problem,
                {.data = queries, .stride_token = shape_.head_dim, .stride_head = group.chunk.rows * shape_.head_dim},
                lane_->centroids.as(), lane_->selection.as<std::int32_t>() + row * (topk - 1), nullptr,
                lane_->execution()));
            row += group.count * group.chunk.rows;
        }
        check_cuda(cudaMemcpyAsync(lane_->host_selection.as(), lane_->selection.as(), selection_bytes,
                                   cudaMemcpyDeviceToHost, stream),
                   "copying the selection");
    }

    ProbeShape shape_;
    Lanes& lanes_;
    std::unique_ptr<Lane> lane_;
};

class CudaKernel : public KernelUnderTest {
public:
    explicit CudaKernel(int threads) : threads_(threads) {
        check(kernels::backend_available(kernels::Backend::cuda));
        check_cuda(cudaGetDevice(&device_), "current device");
    }

    std::string device() const override { return "cuda"; }
    std::string processor() const override { return device_name(device_); }
    int parallel_key_sets() const override { return threads_; }
    std::unique_ptr<LoadedKeys> load(const ProbeShape& shape, std::span<const float> keys) const override {
        check_cuda(cudaSetDevice(device_), "choosing the device");  // a thread starts with device 0
        return std::make_unique<CudaLoadedKeys>(shape, keys, lanes_);
    }
    std::unique_ptr<LoadedKeys> draw(const ProbeShape& shape, const sim::UnitRows& keys) const override {
        check_cuda(cudaSetDevice(device_), "choosing the device");
        return std::make_unique<CudaLoadedKeys>(shape, keys, lanes_);
    }
    std::int64_t host_bytes(const ProbeShape&) const override { return 0; }

private:
    int threads_;
    int device_ = 0;
    mutable Lanes lanes_;
};

}  // namespace

std::unique_ptr<KernelUnderTest> cuda_kernel(int threads) {
    return std::make_unique<CudaKernel>(thread_count(threads));
}

}  // namespace mobalab::experiments
