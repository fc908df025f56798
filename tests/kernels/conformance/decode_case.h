#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/decode.h"
#include "tests/kernels/conformance/moba_conformance.h"

// A decode problem with its cache, run on a target, and the same problem as packed sequences for the reference backend.
namespace mobalab::kernels::conformance {

struct DecodeCase {
    std::string name;
    Problem p;                          ///< seqlen_k: what a sequence may grow to
    std::vector<std::int32_t> lengths;  ///< [batch]
    std::vector<float> q, k, v;  ///< k, v: [batch, seqlen_k, heads_k, head_dim (_v)], also of keys behind the lengths
    std::int64_t page_size = 0;  ///< 0: not paged
};

/// Values are normal numbers of the dtype.
DecodeCase decode_case(const std::string& name, const Problem& problem, const std::vector<std::int32_t>& lengths,
                       DataType dtype, unsigned seed);
/// Small whole numbers instead: summaries of powers of two of keys and all scores are exact, and many of them tie.
void make_whole(DecodeCase& c, unsigned seed);

struct Decoded {
    Status status;
    std::vector<std::byte> centroids;
    Routing routing;
    Attention attention;
};

// Each call uploads a cache in which everything behind the lengths is poison (keys and values NaN, pages shuffled,
// table entries of no page), checks the canaries, downloads.
Decoded run_append(const Target& target, const DecodeCase& c, std::int64_t appended,
                   const std::vector<std::byte>& centroids);
Decoded run_decode_route(const Target& target, const DecodeCase& c, const std::vector<std::byte>& centroids);
Decoded run_decode_attention(const Target& target, const DecodeCase& c, const std::vector<std::int32_t>& selection);
/// moba_decode().
Decoded run_decode(const Target& target, const DecodeCase& c, std::int64_t appended,
                   const std::vector<std::byte>& centroids);

/// As many bytes as centroids have, all poison.
std::vector<std::byte> poisoned_centroids(const DecodeCase& c);

/// What compute_centroids() of the target writes for the sequences of these lengths, in their places among poison.
std::vector<std::byte> computed_centroids(const Target& target, const DecodeCase& c);

/// route_with_centroids() and attention_forward() of the reference backend over the packed sequences; selections have
/// the slots of the decode problem.
Routing reference_route(const DecodeCase& c, const std::vector<std::byte>& centroids);
Attention reference_attention(const DecodeCase& c, const std::vector<std::int32_t>& selection);

}  // namespace mobalab::kernels::conformance
