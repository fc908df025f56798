#pragma once

#include <cstddef>
#include <cstdint>

namespace mobalab::kernels::cuda {

/// Hands out 256-byte aligned pieces of a workspace; over a null workspace it only adds up their sizes, so that one
/// function both sizes and divides it.
class WorkspaceCarver {
public:
    explicit WorkspaceCarver(void* workspace) : base_(static_cast<unsigned char*>(workspace)) {}

    template <typename T>
    T* take(std::int64_t count) {
        return static_cast<T*>(take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
    }
    void* take_bytes(std::size_t bytes) {
        void* piece = base_ != nullptr ? base_ + used_ : nullptr;
        used_ += (bytes + alignment - 1) / alignment * alignment;
        return piece;
    }
    std::size_t used() const { return used_; }

private:
    static constexpr std::size_t alignment = 256;
    unsigned char* base_;
    std::size_t used_ = 0;
};

}  // namespace mobalab::kernels::cuda
