#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "experiments/device/element_conversion.h"
#include "experiments/measure/head_tensors.h"

namespace mobalab::experiments::testing_support {

/// What a random head looks like.
struct HeadShape {
    std::int64_t head_dim = 64;
    std::int64_t rows = 1;
    std::int64_t q_start = 0;
    std::int64_t later_keys = 0;  ///< behind the last row
    std::int64_t value_dim = 0;   ///< 0: no values
    kernels::DataType dtype = kernels::DataType::bf16;
    double spread = 1.0;  ///< standard deviation of scale q . k around what all keys share
    double scale = 0.0;   ///< 0: head_dim^-1/2
};

inline HeadRows rows_of(const std::vector<float>& values, std::int64_t head_dim, kernels::DataType dtype) {
    HeadRows rows{.dtype = dtype,
                  .rows = static_cast<std::int64_t>(values.size()) / head_dim,
                  .head_dim = head_dim,
                  .bytes = std::vector<std::byte>(values.size() * size_of(dtype))};
    store_as(dtype, values, rows.bytes.data());
    return rows;
}

/// Keys that drift (neighbours resemble each other), share a mean, and a first key that most queries look at: what
/// real keys have, so that blocks differ. Same seed, same head.
inline HeadTensors random_head(const HeadShape& shape, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    const auto d = static_cast<std::size_t>(shape.head_dim);
    const auto keys = static_cast<std::size_t>(shape.q_start + shape.rows + shape.later_keys);
    const double scale = shape.scale > 0.0 ? shape.scale : 1.0 / std::sqrt(static_cast<double>(d));
    const auto size = static_cast<float>(shape.spread / (scale * std::sqrt(static_cast<double>(d))));
    std::vector<float> q(static_cast<std::size_t>(shape.rows) * d), k(keys * d), mean(d), drift(d);
    std::vector<float> v(keys * static_cast<std::size_t>(shape.value_dim));
    for (float& x : mean) x = 0.5F * normal(random);
    for (float& x : drift) x = normal(random);
    for (std::size_t key = 0; key < keys; ++key) {
        for (std::size_t c = 0; c < d; ++c) {
            drift[c] = 0.95F * drift[c] + 0.3F * normal(random);
            k[key * d + c] = mean[c] + drift[c] + 0.5F * normal(random);
        }
    }
    for (std::size_t c = 0; c < d; ++c) k[c] = 2.0F * mean[c];
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = size * (0.4F * mean[i % d] + normal(random));
    for (float& x : v) x = normal(random);
    HeadTensors head{.q = rows_of(q, shape.head_dim, shape.dtype),
                     .k = rows_of(k, shape.head_dim, shape.dtype),
                     .v = {},
                     .q_start = shape.q_start,
                     .scale = scale};
    if (shape.value_dim > 0) head.v = rows_of(v, shape.value_dim, shape.dtype);
    return head;
}

}  // namespace mobalab::experiments::testing_support
