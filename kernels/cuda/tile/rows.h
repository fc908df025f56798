#pragma once

#include <cstdint>

#include "kernels/cuda/tile/sequences.h"
#include "kernels/kernels.h"

namespace mobalab::kernels::cuda {

/// Strides of a [batch, tokens, heads, head_dim] tensor, resolved, in elements or bytes as its user counts.
struct RowStrides {
    std::int64_t batch = 0, token = 0, head = 0;

    MOBALAB_HOST_DEVICE std::int64_t at(std::int64_t b, std::int64_t t, std::int64_t h) const {
        return b * batch + t * token + h * head;
    }
};

template <typename Pointer>
RowStrides strides_of(const BasicTensor<Pointer>& tensor, std::int64_t unit = 1) {
    return {tensor.stride_batch * unit, tensor.stride_token * unit, tensor.stride_head * unit};
}

/// A tensor by its rows, in bytes.
struct RowTensor {
    char* data = nullptr;
    RowStrides stride;

    MOBALAB_HOST_DEVICE char* row(std::int64_t head, const Place& place) const {
        return data + stride.at(place.batch, place.token, head);
    }
};

/// Kernels only read what came as const.
template <typename Pointer>
RowTensor rows_of(const BasicTensor<Pointer>& tensor) {
    constexpr std::int64_t element_bytes = 2;
    return {static_cast<char*>(const_cast<void*>(static_cast<const void*>(tensor.data))),
            strides_of(tensor, element_bytes)};
}

}  // namespace mobalab::kernels::cuda
