#pragma once

#include <cstdint>

#include "experiments/trace/trace.h"

namespace mobalab::experiments {

/// One query head with the keys and values that it reads; all three of one dtype and head_dim (values may have
/// another).
struct HeadTensors {
    HeadRows q;  ///< [rows, head_dim]; row r stands at position q_start + r
    HeadRows k;  ///< [keys, head_dim] at positions 0 ... keys - 1; the last row of q is one of them
    HeadRows v;  ///< [keys, value_dim]; no rows: there are none
    std::int64_t q_start = 0;
    double scale = 0.0;  ///< of q . k in the softmax, > 0
};

}  // namespace mobalab::experiments
