// Runs the API on a target: guarded, poisoned buffers in the target's memory, results as floats.
#include <algorithm>
#include <cstring>
#include <new>

#include "tests/kernels/conformance/conformance_call.h"

namespace mobalab::kernels::conformance {
namespace {

/// Contiguous values with `gap` unused elements after each row of head_dim.
std::vector<float> spread(const std::vector<float>& values, std::int64_t head_dim, std::int64_t gap) {
    std::vector<float> result;
    for (std::size_t i = 0; i < values.size(); ++i) {
        result.push_back(values[i]);
        if ((static_cast<std::int64_t>(i) + 1) % head_dim == 0)
            result.insert(result.end(), static_cast<std::size_t>(gap), 1e30F);
    }
    return result;
}

}  // namespace

void* HostMemory::allocate(std::size_t bytes) {
    constexpr std::size_t alignment = 256;
    return ::operator new (bytes, std::align_val_t{alignment});
}
void HostMemory::release(void* pointer) {
    ::operator delete (pointer, std::align_val_t{256});
}
void HostMemory::write(void* to, const void* from_host, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to, from_host, bytes);
}
void HostMemory::read(void* to_host, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to_host, from, bytes);
}

Pooled run_centroids(const Target& target, const Case& c) {
    const Call call(target, c, Operation::centroids);
    const DataType dtype = c.p.centroid_dtype();
    const Buffer k = call.upload(c.k);
    const Buffer out = call.output(static_cast<std::size_t>(call.p.centroid_elements()), dtype);
    Status status = compute_centroids(call.p, input(k), out.data(), call.execution);
    return {std::move(status), decode(out.read<std::byte>(), dtype)};
}

Routing run_route(const Target& target, const Case& c) {
    const Call call(target, c, Operation::route);
    const Buffer q = call.upload(c.q);
    const Buffer k = call.upload(c.k);
    const Buffer selection = call.output(call.selection_size(), DataType::fp32);
    const Buffer scores = call.output(call.selection_size(), DataType::fp32);
    Status status = route(call.p, input(q), input(k), ints(selection), floats(scores), call.execution);
    return {std::move(status), selection.read<std::int32_t>(), scores.read<float>()};
}

Routing run_route_with_centroids(const Target& target, const Case& c, const std::vector<float>& centroids) {
    const Call call(target, c, Operation::route_with_centroids);
    const Buffer q = call.upload(c.q);
    const Buffer pooled = call.upload(centroids, c.p.centroid_dtype());
    const Buffer selection = call.output(call.selection_size(), DataType::fp32);
    const Buffer scores = call.output(call.selection_size(), DataType::fp32);
    Status status =
        route_with_centroids(call.p, input(q), pooled.data(), ints(selection), floats(scores), call.execution);
    return {std::move(status), selection.read<std::int32_t>(), scores.read<float>()};
}

Attention run_attention(const Target& target, const Case& c, const std::vector<std::int32_t>& selection) {
    const Call call(target, c, Operation::attention_forward);
    const Buffer q = call.upload(c.q);
    const Buffer k = call.upload(c.k);
    const Buffer v = call.upload(c.v);
    const Buffer selected = call.upload_raw(selection);
    const Buffer out = call.output(call.output_size());
    const Buffer lse = call.output(call.query_rows(), DataType::fp32);
    Status status = attention_forward(call.p, input(q), input(k), input(v), ints(selected), output(out), floats(lse),
                                      call.execution);
    return {std::move(status), decode(out.read<std::byte>(), c.p.dtype), lse.read<float>(), selection};
}

Attention run_moba(const Target& target, const Case& c) {
    const Call call(target, c, Operation::moba_forward);
    const Buffer q = call.upload(c.q);
    const Buffer k = call.upload(c.k);
    const Buffer v = call.upload(c.v);
    const Buffer selection = call.output(call.selection_size(), DataType::fp32);
    const Buffer out = call.output(call.output_size());
    const Buffer lse = call.output(call.query_rows(), DataType::fp32);
    Status status =
        moba_forward(call.p, input(q), input(k), input(v), output(out), floats(lse), ints(selection), call.execution);
    return {std::move(status), decode(out.read<std::byte>(), c.p.dtype), lse.read<float>(),
            selection.read<std::int32_t>()};
}

Gradients run_backward(const Target& target, const Case& c, const Attention& forward,
                       const std::vector<std::int32_t>& selection) {
    const Call call(target, c, Operation::attention_backward);
    const Buffer q = call.upload(c.q);
    const Buffer k = call.upload(c.k);
    const Buffer v = call.upload(c.v);
    const Buffer out = call.upload(forward.out);
    const Buffer d_out = call.upload(c.d_out);
    const Buffer lse = call.upload_raw(forward.lse);
    const Buffer selected = call.upload_raw(selection);
    const Buffer dq = call.output(c.q.size());
    const Buffer dk = call.output(c.k.size());
    const Buffer dv = call.output(c.v.size());
    Status status = attention_backward(call.p, input(q), input(k), input(v), input(out), input(d_out), floats(lse),
                                       ints(selected), output(dq), output(dk), output(dv), call.execution);
    const auto values = [&](const Buffer& buffer) { return decode(buffer.read<std::byte>(), c.p.dtype); };
    return {std::move(status), values(dq), values(dk), values(dv)};
}

Convolved run_conv(const Target& target, const Case& c, const std::vector<float>& weight, int width) {
    const Call call(target, c, Operation::key_conv_forward);
    const Buffer k = call.upload(c.k);
    const Buffer w = call.upload_raw(weight);
    const Buffer out = call.output(c.k.size());
    Status status = key_conv_forward(call.p, input(k), floats(w), width, output(out), call.execution);
    return {std::move(status), decode(out.read<std::byte>(), c.p.dtype)};
}

ConvolvedAndPooled run_conv_centroids(const Target& target, const Case& c, const std::vector<float>& weight,
                                      int width) {
    const Call call(target, c, Operation::key_conv_centroids);
    const DataType dtype = c.p.centroid_dtype();
    const Buffer k = call.upload(c.k);
    const Buffer w = call.upload_raw(weight);
    const Buffer out = call.output(c.k.size());
    const Buffer centroids = call.output(static_cast<std::size_t>(call.p.centroid_elements()), dtype);
    Status status =
        key_conv_centroids(call.p, input(k), floats(w), width, output(out), centroids.data(), call.execution);
    return {std::move(status), decode(out.read<std::byte>(), c.p.dtype), decode(centroids.read<std::byte>(), dtype)};
}

ConvGradients run_conv_backward(const Target& target, const Case& c, const std::vector<float>& weight, int width,
                                const std::vector<float>& d_out) {
    const Call call(target, c, Operation::key_conv_backward);
    const Buffer k = call.upload(c.k);
    const Buffer w = call.upload_raw(weight);
    const Buffer upper = call.upload(d_out);
    const Buffer dk = call.output(c.k.size());
    const Buffer dw = call.output(weight.size(), DataType::fp32);
    Status status =
        key_conv_backward(call.p, input(k), floats(w), width, input(upper), output(dk), floats(dw), call.execution);
    return {std::move(status), decode(dk.read<std::byte>(), c.p.dtype), dw.read<float>()};
}

Attention run_strided(const Target& target, const Case& c) {
    constexpr std::int64_t gap = 8;  // keeps rows 16-byte aligned in every dtype
    const Call call(target, c, Operation::moba_forward);
    const std::int64_t d = c.p.head_dim;
    const Buffer q = call.upload(spread(c.q, d, gap));
    const Buffer k = call.upload(spread(c.k, d, gap));
    const Buffer v = call.upload(spread(c.v, d, gap));
    const Buffer selection = call.output(call.selection_size(), DataType::fp32);
    const Buffer out = call.output(call.query_rows() * static_cast<std::size_t>(d + gap));
    const Buffer lse = call.output(call.query_rows(), DataType::fp32);
    const auto strided = [&](const Buffer& buffer, std::int64_t heads) {
        return ConstTensor{.data = buffer.data(), .stride_token = heads * (d + gap), .stride_head = d + gap};
    };
    const Tensor to = {.data = out.data(), .stride_token = c.p.heads_q * (d + gap), .stride_head = d + gap};
    Status status = moba_forward(call.p, strided(q, c.p.heads_q), strided(k, c.p.heads_k), strided(v, c.p.heads_k), to,
                                 floats(lse), ints(selection), call.execution);
    Attention result{std::move(status), {}, lse.read<float>(), selection.read<std::int32_t>()};
    const std::vector<std::byte> bytes = out.read<std::byte>();
    const std::vector<float> all = decode(bytes, c.p.dtype);
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (static_cast<std::int64_t>(i) % (d + gap) < d) {
            result.out.push_back(all[i]);
            continue;
        }
        const std::size_t size = size_of(c.p.dtype);
        EXPECT_TRUE(std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(i * size),
                                bytes.begin() + static_cast<std::ptrdiff_t>((i + 1) * size),
                                [](std::byte b) { return b == std::byte{poison}; }))
            << "gap element " << i << " was written";
    }
    return result;
}

Tolerance tolerance(const Target& target) {
    switch (target.dtype) {
        case DataType::fp32:
            return {2e-6, 1e-5, 1e-5};
        case DataType::bf16:
            return {4e-3, 1.2e-2, 1e-3};
        case DataType::fp16:
            return {6e-4, 1.8e-3, 1e-3};
    }
    return {};
}

void MobaConformance::SetUp() {
    const Status available = backend_available(GetParam().backend);
    if (available.code == StatusCode::unsupported_device && GetParam().backend == Backend::cuda) {
        GTEST_SKIP() << available.message;  // the one reason to skip: what a backend supports, it must run
    }
    ASSERT_TRUE(available.ok()) << available.message;
}

}  // namespace mobalab::kernels::conformance
