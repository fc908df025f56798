#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/convert.h"
#include "tests/kernels/conformance/moba_conformance.h"

// Guarded, poisoned memory of a target and the calls over it.
namespace mobalab::kernels::conformance {

inline constexpr std::size_t guard_bytes = 4096;
inline constexpr int guard_value = 0xA5;
inline constexpr int poison = 0xFF;  // NaN in every dtype, -1 in int32

/// Memory of the target between canaries, all poison at first.
class Buffer {
public:
    Buffer(const Target& target, std::size_t bytes) : memory_(*target.memory), bytes_(bytes) {
        base_ = static_cast<std::byte*>(memory_.allocate(bytes + 2 * guard_bytes));
        std::vector<std::byte> image(bytes + 2 * guard_bytes, std::byte{guard_value});
        std::fill_n(image.begin() + guard_bytes, bytes, std::byte{poison});
        memory_.write(base_, image.data(), image.size());
    }
    Buffer(const Target& target, const void* from, std::size_t bytes) : Buffer(target, bytes) {
        memory_.write(data(), from, bytes);
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() {
        EXPECT_TRUE(guards_intact()) << "written outside a buffer of " << bytes_ << " bytes";
        memory_.release(base_);
    }

    std::byte* data() const { return base_ + guard_bytes; }

    template <typename T>
    std::vector<T> read() const {
        std::vector<T> values(bytes_ / sizeof(T));
        memory_.read(values.data(), data(), bytes_);
        return values;
    }

private:
    bool guards_intact() const {
        std::vector<std::byte> image(bytes_ + 2 * guard_bytes);
        memory_.read(image.data(), base_, image.size());
        const auto is_guard = [](std::byte b) { return b == std::byte{guard_value}; };
        return std::all_of(image.begin(), image.begin() + guard_bytes, is_guard) &&
               std::all_of(image.end() - guard_bytes, image.end(), is_guard);
    }

    Memory& memory_;
    std::size_t bytes_;
    std::byte* base_;
};

inline std::vector<std::byte> encode(const std::vector<float>& values, DataType dtype) {
    std::vector<std::byte> bytes(values.size() * size_of(dtype));
    if (values.empty()) return bytes;  // it has no address to give
    cpu::write_row(bytes.data(), dtype, static_cast<std::int64_t>(values.size()), values.data());
    return bytes;
}

inline std::vector<float> decode(const std::vector<std::byte>& bytes, DataType dtype) {
    std::vector<float> values(bytes.size() / size_of(dtype));
    if (values.empty()) return values;
    cpu::read_row(bytes.data(), dtype, static_cast<std::int64_t>(values.size()), values.data());
    return values;
}

/// One call: the problem with cu_seqlens in the target's memory, and an Execution with a workspace.
class Call {
public:
    Call(const Target& target, const Case& c, Operation operation)
        : target_(target),
          p(c.p),
          cu_q_(target, c.cu_q.data(), c.cu_q.size() * sizeof(std::int32_t)),
          cu_k_(target, c.cu_k.data(), c.cu_k.size() * sizeof(std::int32_t)),
          workspace_(target, workspace_bytes(target, c, operation)) {
        if (!c.cu_q.empty()) {
            p.cu_seqlens_q = reinterpret_cast<const std::int32_t*>(cu_q_.data());
            p.cu_seqlens_k = reinterpret_cast<const std::int32_t*>(cu_k_.data());
        }
        execution.backend = target.backend;
        execution.workspace = workspace_.data();
        execution.workspace_bytes = workspace_bytes(target, c, operation);
    }

    Buffer upload(const std::vector<float>& values, DataType dtype) const {
        const std::vector<std::byte> bytes = encode(values, dtype);
        return {target_, bytes.data(), bytes.size()};
    }
    Buffer upload(const std::vector<float>& values) const { return upload(values, p.dtype); }
    template <typename T>
    Buffer upload_raw(const std::vector<T>& values) const {
        return {target_, values.data(), values.size() * sizeof(T)};
    }
    Buffer output(std::size_t count, DataType dtype) const { return {target_, count * size_of(dtype)}; }
    Buffer output(std::size_t count) const { return output(count, p.dtype); }

    std::size_t query_rows() const { return static_cast<std::size_t>(p.tokens_q() * p.heads_q); }
    std::size_t output_size() const { return query_rows() * static_cast<std::size_t>(p.value_dim()); }
    std::size_t selection_size() const { return query_rows() * static_cast<std::size_t>(p.routed()); }

private:
    /// Asked with null cu_seqlens replaced by some pointer: the size depends on the integers alone.
    static std::size_t workspace_bytes(const Target& target, const Case& c, Operation operation) {
        return workspace_size(operation, c.host_problem(), target.backend);
    }
    const Target& target_;

public:
    Problem p;
    Execution execution;

private:
    Buffer cu_q_, cu_k_, workspace_;
};

inline ConstTensor input(const Buffer& buffer) {
    return {buffer.data()};
}
inline Tensor output(const Buffer& buffer) {
    return {buffer.data()};
}
inline std::int32_t* ints(const Buffer& buffer) {
    return reinterpret_cast<std::int32_t*>(buffer.data());
}
inline float* floats(const Buffer& buffer) {
    return reinterpret_cast<float*>(buffer.data());
}

}  // namespace mobalab::kernels::conformance
