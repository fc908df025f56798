#pragma once

#include <memory>
#include <string>

#include "experiments/probe/kernel_under_test.h"

namespace mobalab::experiments {

// A router of somebody else's on the bench of the kernels: another process routes what the probe asks for. It listens
// on a Unix socket; every key set is a connection of its own, on which it answers one request after the other. Numbers
// have the byte order of the machine, tensors are contiguous.
//
//   on connecting  router:   int64 n, n bytes: its name (UTF-8, one line, at most 200 bytes)
//   keys           program:  int64 {1, seq_len, head_dim, block_size}, fp32 [seq_len, head_dim]
//   route          program:  int64 {2, start, rows, topk}, fp32 [rows, head_dim]: queries at positions start to
//                            start + rows - 1 of the sequence of the keys sent before
//                  router:   int32 [rows, topk - 1]: past blocks of each query, -1 for none, in any order
//
// Tensors are rounded to the dtype of the probe before they are sent. A block that is none of the query's past blocks
// (those that end before its own begins) or that comes twice is an error, never a count.

/// The router that listens at `path`. device() is "router NAME". Throws KernelError where nobody does, and later when
/// it closes the connection or selects what it must not. One key set at a time.
std::unique_ptr<KernelUnderTest> socket_router(const std::string& path);

}  // namespace mobalab::experiments
