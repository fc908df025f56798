// Every argument of the C interface: what it refuses, in which words, and what it takes with right numbers. One table;
// each row runs in a process of its own (gtest's death tests fork), so a crash is a failed row. The message has to name
// the value, the rule and the nearest valid choice. Rows that are taken are compared with the reference backend.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <ostream>
#include <regex>
#include <string>

#include "tests/kernels/c_api/c_call.h"
#ifdef MOBALAB_ARGUMENTS_CUDA
#include <cuda_runtime_api.h>
#endif

namespace mobalab::kernels::testing_support {
namespace {

constexpr int64_t int64_max = std::numeric_limits<int64_t>::max();
constexpr int64_t int64_min = std::numeric_limits<int64_t>::min();
constexpr int32_t int32_max = std::numeric_limits<int32_t>::max();
constexpr int32_t int32_min = std::numeric_limits<int32_t>::min();
constexpr int64_t nonsense = -12345;

enum class Where { everywhere, host, cuda };

struct Row {
    const char* argument;
    MobalabOperation operation;
    std::function<void(CCall&)> change;
    MobalabStatus status;
    const char* message;  ///< POSIX regular expression; of rows that are taken: nothing
    Where where = Where::everywhere;
};

constexpr auto centroids = MOBALAB_OP_CENTROIDS;
constexpr auto route = MOBALAB_OP_ROUTE;
constexpr auto route_given = MOBALAB_OP_ROUTE_WITH_CENTROIDS;
constexpr auto attention = MOBALAB_OP_ATTENTION_FORWARD;
constexpr auto moba = MOBALAB_OP_MOBA_FORWARD;
constexpr auto backward = MOBALAB_OP_ATTENTION_BACKWARD;
constexpr auto conv = MOBALAB_OP_KEY_CONV_FORWARD;
constexpr auto conv_centroids = MOBALAB_OP_KEY_CONV_CENTROIDS;
constexpr auto conv_backward = MOBALAB_OP_KEY_CONV_BACKWARD;
constexpr auto append = MOBALAB_OP_APPEND_CENTROIDS;
constexpr auto decode_route = MOBALAB_OP_DECODE_ROUTE;
constexpr auto decode_attention = MOBALAB_OP_DECODE_ATTENTION;
constexpr auto decode = MOBALAB_OP_MOBA_DECODE;
constexpr auto invalid = MOBALAB_INVALID_ARGUMENT;
constexpr auto unsupported = MOBALAB_UNSUPPORTED;
constexpr auto ok = MOBALAB_OK;

template <typename T>
T* moved(T* pointer, std::ptrdiff_t bytes) {
    return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(pointer) + static_cast<std::uintptr_t>(bytes));
}
void use_boundaries(CCall& c) {
    c.problem.cu_seqlens_q = c.cu_q;
    c.problem.cu_seqlens_k = c.cu_k;
    c.problem.seqlen_q = 66;
    c.problem.seqlen_k = 90;
    c.problem.total_q = 96;
    c.problem.total_k = 160;
    c.problem.total_blocks = 5 + 6;
}
/// As many sub-blocks of a block, by the scorer that has some.
void divide(CCall& c, int64_t sub_blocks) {
    c.problem.scorer = MOBALAB_SCORER_submean;
    c.problem.sub_blocks = sub_blocks;
}
constexpr std::ptrdiff_t batch_centroid_bytes = 2 * 5 * 2 * 64 * 2;  // of scorer mean: quest keeps twice as much
/// `copies` as many summaries as scorer mean has centroids; small whole numbers.
void keep(CCall& c, MobalabScorer scorer, int64_t sub_blocks, std::size_t copies) {
    c.problem.scorer = scorer;
    c.problem.sub_blocks = sub_blocks;
    std::vector<uint16_t> bits(copies * batch_centroid_bytes / sizeof(uint16_t));
    for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = i * 7 % 5 < 2 ? 0x3f80 : 0xbf80;  // 1 or -1
    c.centroids = c.put("centroids", bits.data(), bits.size() * sizeof(uint16_t));
}
void keep_nothing(CCall& c) {
    c.problem.scorer = MOBALAB_SCORER_random;
    c.centroids = nullptr;
}
/// The cache in 10 pages of 16 keys; the second sequence ends in its fourth page.
void use_pages(CCall& c) {
    c.cache.block_table = static_cast<int32_t*>(c.put("table", {7, 2, 9, 0, 4, 1, 3, 8, 5, -1}));
    c.cache.pages = 10;
    c.cache.page_size = 16;
}
/// With as many slots as before.
void make_non_causal(CCall& c) {
    c.problem.non_causal = 1;
    c.problem.topk -= 1;
}
MobalabTensor strided(MobalabTensor t, int64_t batch, int64_t token, int64_t head) {
    return {t.data, batch, token, head};
}

const std::vector<Row> rows = {
    // The structs.
    {"problem null", moba, [](CCall& c) { c.problem_pointer = nullptr; }, invalid, "problem is null.*nearest valid"},
    {"execution null", moba, [](CCall& c) { c.execution_pointer = nullptr; }, invalid, "execution is null.*nearest"},
    {"dtype 3", moba, [](CCall& c) { c.problem.dtype = 3; }, invalid, "dtype = 3: must be 0.*nearest.*: 0"},
    {"dtype -1", moba, [](CCall& c) { c.problem.dtype = -1; }, invalid, "dtype = -1: must be"},
    {"centroids 3", moba, [](CCall& c) { c.problem.centroids = 3; }, invalid, "centroids = 3: must be 0.*nearest"},
    {"backend 3", moba, [](CCall& c) { c.execution.backend = 3; }, invalid, "backend = 3: must be 0.*nearest"},
    {"backend -1", moba, [](CCall& c) { c.execution.backend = -1; }, invalid, "backend = -1: must be"},
    // Integers.
    {"batch 0", moba, [](CCall& c) { c.problem.batch = 0; }, invalid, "batch = 0: must be in .*choice: 1"},
    {"batch min", route, [](CCall& c) { c.problem.batch = int64_min; }, invalid, "batch = -9223372036854775808: must"},
    {"batch max", centroids, [](CCall& c) { c.problem.batch = int64_max; }, invalid, "batch = 9223372036854775807"},
    {"batch 2^31 - 1", conv, [](CCall& c) { c.problem.batch = int32_max; }, invalid, "batch \\* seqlen_k = .*must be in"},
    {"seqlen_q -1", moba, [](CCall& c) { c.problem.seqlen_q = -1; }, invalid, "seqlen_q = -1: must be.*choice: 0"},
    {"seqlen_q max", backward, [](CCall& c) { c.problem.seqlen_q = int64_max; }, invalid, "seqlen_q = 92233720368547"},
    {"seqlen_k -1", conv, [](CCall& c) { c.problem.seqlen_k = -1; }, invalid, "seqlen_k = -1: must be.*choice: 0"},
    {"seqlen_k max", centroids, [](CCall& c) { c.problem.seqlen_k = int64_max; }, invalid, "seqlen_k = 92233720368547"},
    {"heads_q 0", moba, [](CCall& c) { c.problem.heads_q = 0; }, invalid, "heads_q = 0: must be.*choice: 1"},
    {"heads_q 5", moba, [](CCall& c) { c.problem.heads_q = 5; }, invalid, "heads_q = 5: .*heads_k = 2.*choice: 6"},
    {"heads_q max", route, [](CCall& c) { c.problem.heads_q = int64_max; }, invalid, "heads_q = 92233720368547"},
    {"heads_k 0", conv, [](CCall& c) { c.problem.heads_k = 0; }, invalid, "heads_k = 0: must be.*choice: 1"},
    {"heads_k x head_dim", conv_backward,
     [](CCall& c) {
         c.problem.seqlen_k = 0;
         c.problem.heads_k = c.problem.head_dim = int32_max;
     },
     invalid, "k has .*elements .*2\\^46"},
    {"heads_k max", conv, [](CCall& c) { c.problem.heads_k = int64_max; }, invalid, "heads_k = 92233720368547"},
    {"head_dim 0", moba, [](CCall& c) { c.problem.head_dim = 0; }, invalid, "head_dim = 0: must be.*choice: 1"},
    {"head_dim min", conv, [](CCall& c) { c.problem.head_dim = int64_min; }, invalid, "head_dim = -922337203685477"},
    {"head_dim max", route, [](CCall& c) { c.problem.head_dim = int64_max; }, invalid, "head_dim = 922337203685477"},
    {"head_dim 60", moba, [](CCall& c) { c.problem.head_dim = 60; }, unsupported, "head_dim = 60: .*of 8.*: 64", Where::cuda},
    {"head_dim 3", conv, [](CCall& c) { c.problem.head_dim = 3; }, unsupported, "head_dim = 3: .*of 8.*: 8", Where::cuda},
    {"head_dim 264", route, [](CCall& c) { c.problem.head_dim = 264; }, unsupported, "head_dim = 264.*: 256", Where::cuda},
    {"block_size 0", centroids, [](CCall& c) { c.problem.block_size = 0; }, invalid, "block_size = 0: must.*: 1"},
    {"block_size -16", moba, [](CCall& c) { c.problem.block_size = -16; }, invalid, "block_size = -16: must.*: 1"},
    {"block_size max", route, [](CCall& c) { c.problem.block_size = int64_max; }, invalid, "block_size = 92233720368"},
    {"block_size 2^64 + 16", moba, [](CCall& c) { c.problem.block_size = int64_min + 16; }, invalid, "block_size = -92"},
    {"block_size 16385", moba, [](CCall& c) { c.problem.block_size = 16385; }, unsupported, "block_size = 16385.*: 16384", Where::cuda},
    {"topk 0", moba, [](CCall& c) { c.problem.topk = 0; }, invalid, "topk = 0: must be at least 1.*choice: 1"},
    {"topk min", route, [](CCall& c) { c.problem.topk = int64_min; }, invalid, "topk = -922337203685.*at least 1"},
    {"threads -1", moba, [](CCall& c) { c.execution.threads = -1; }, invalid, "threads = -1: must be in .*choice: 0"},
    {"threads 4097", moba, [](CCall& c) { c.execution.threads = 4097; }, invalid, "threads = 4097: .*choice: 4096"},
    {"threads max", conv, [](CCall& c) { c.execution.threads = int32_max; }, invalid, "threads = 2147483647: .*: 4096"},
    {"width 0", conv, [](CCall& c) { c.width = 0; }, invalid, "width = 0: must be in \\[1, 8\\].*choice: 1"},
    {"width 9", conv_centroids, [](CCall& c) { c.width = 9; }, invalid, "width = 9: must be in .*choice: 8"},
    {"width max", conv_backward, [](CCall& c) { c.width = int32_max; }, invalid, "width = 2147483647: must be in"},
    {"width min", conv_backward, [](CCall& c) { c.width = int32_min; }, invalid, "width = -2147483648: must be in"},
    {"dtype fp32", moba, [](CCall& c) { c.problem.dtype = MOBALAB_FP32; }, unsupported, "dtype = fp32.*bf16", Where::cuda},
    // The scorer, of what routes or summarises keys.
    {"scorer 78", moba, [](CCall& c) { c.problem.scorer = 78; }, invalid, "scorer = 78: .*0 \\(mean\\).*4 \\(random\\).*: 0"},
    {"scorer -1", centroids, [](CCall& c) { c.problem.scorer = -1; }, invalid, "scorer = -1: must be one of"},
    {"scorer max", route, [](CCall& c) { c.problem.scorer = int32_max; }, invalid, "scorer = 2147483647: must be one of"},
    {"scorer min", route_given, [](CCall& c) { c.problem.scorer = int32_min; }, invalid, "scorer = -2147483648: must be"},
    {"head_dim_v -1", moba, [](CCall& c) { c.problem.head_dim_v = -1; }, invalid, "head_dim_v = -1: must be in.*choice: 0"},
    {"head_dim_v max", backward, [](CCall& c) { c.problem.head_dim_v = int64_max; }, invalid, "head_dim_v = 92233720.*"},
    {"head_dim_v 0", moba, [](CCall& c) { c.problem.head_dim_v = 0; }, ok, ""},
    {"head_dim_v 64", backward, [](CCall& c) { c.problem.head_dim_v = 64; }, ok, ""},
    {"head_dim_v 32", moba, [](CCall& c) { c.problem.head_dim_v = 32; }, ok, ""},
    {"head_dim_v 32", attention, [](CCall& c) { c.problem.head_dim_v = 32; }, ok, ""},
    {"head_dim_v 8", backward, [](CCall& c) { c.problem.head_dim_v = 8; }, ok, ""},
    {"head_dim_v 65 beside strides of 64", moba,
     [](CCall& c) {
         c.problem.head_dim_v = 65;
         c.v = strided(c.v, 10240, 128, 64);
         c.out = strided(c.out, 12288, 256, 64);
     },
     invalid, "out has strides .* rows of 65 elements", Where::host},
    {"routing looks at no head_dim_v", route, [](CCall& c) { c.problem.head_dim_v = -1; }, ok, ""},
    {"non_causal 2", moba, [](CCall& c) { c.problem.non_causal = 2; }, invalid, "non_causal = 2: must be 0.*choice: 1"},
    {"non_causal -1", route, [](CCall& c) { c.problem.non_causal = -1; }, invalid, "non_causal = -1: must be 0.*: 0"},
    {"non_causal max", attention, [](CCall& c) { c.problem.non_causal = int64_max; }, invalid, "non_causal = 92233720.*: 1"},
    {"non_causal min", backward, [](CCall& c) { c.problem.non_causal = int64_min; }, invalid, "non_causal = -9223.*: 0"},
    {"keep_first 2", moba, [](CCall& c) { c.problem.keep_first = 2; }, invalid, "keep_first = 2: must be 0.*choice: 1"},
    {"keep_first -1", route, [](CCall& c) { c.problem.keep_first = -1; }, invalid, "keep_first = -1: must be 0.*: 0"},
    {"keep_first max", attention, [](CCall& c) { c.problem.keep_first = int32_max; }, invalid, "keep_first = 21474.*: 1"},
    {"keep_first min", route_given, [](CCall& c) { c.problem.keep_first = int32_min; }, invalid, "keep_first = -2147.*: 0"},
    {"scale -1", moba, [](CCall& c) { c.problem.scale = -1.0; }, invalid, "scale = -1: must be in \\[1e-30, 1e\\+30\\].*: 0.125"},
    {"scale nan", attention, [](CCall& c) { c.problem.scale = std::nan(""); }, invalid, "scale = -?nan: must be in.*: 0.125"},
    {"scale inf", backward, [](CCall& c) { c.problem.scale = INFINITY; }, invalid, "scale = inf: must be in.*: 0.125"},
    {"scale 1e-31", moba, [](CCall& c) { c.problem.scale = 1e-31; }, invalid, "scale = 1e-31: must be in.*: 1e-30"},
    {"sub_blocks 0", conv_centroids, [](CCall& c) { c.problem.sub_blocks = 0; }, invalid, "sub_blocks = 0: must.*: 1"},
    {"sub_blocks 2 of mean", moba, [](CCall& c) { c.problem.sub_blocks = 2; }, invalid,
     "sub_blocks = 2: must be 1 with scorer mean.*: 1"},
    {"sub_blocks 16 of quest", route,
     [](CCall& c) {
         c.problem.scorer = MOBALAB_SCORER_quest;
         c.problem.sub_blocks = 16;
     },
     invalid, "sub_blocks = 16: must be 1 with scorer quest.*: 1"},
    {"sub_blocks 0 of submean", route, [](CCall& c) { divide(c, 0); }, invalid, "sub_blocks = 0: .*\\[1, 16\\].*: 1"},
    {"sub_blocks -4", centroids, [](CCall& c) { divide(c, -4); }, invalid, "sub_blocks = -4: .*\\[1, 16\\].*: 1"},
    {"sub_blocks min", moba, [](CCall& c) { divide(c, int64_min); }, invalid, "sub_blocks = -9223372036854775808: .*: 1"},
    {"sub_blocks max", moba, [](CCall& c) { divide(c, int64_max); }, invalid, "sub_blocks = 9223372036854775807: .*: 16"},
    {"sub_blocks 17", route_given, [](CCall& c) { divide(c, 17); }, invalid, "sub_blocks = 17: .*\\[1, 16\\].*: 16"},
    {"sub_blocks 7", moba, [](CCall& c) { divide(c, 7); }, invalid, "sub_blocks = 7: .*divide block_size = 16.*: 8"},
    {"sub_blocks 12 of 2^31 - 1", conv_centroids,
     [](CCall& c) {
         c.problem.block_size = int32_max;
         divide(c, 12);
     },
     invalid, "sub_blocks = 12: .*divide block_size = 2147483647.*: 1"},
    {"sub_blocks of one key, too many of them", centroids,
     [](CCall& c) {
         c.problem.block_size = int32_max;
         c.problem.batch = int32_max / 80;
         divide(c, int32_max);
     },
     invalid, "centroids has .*parts 1 x sub-blocks [0-9]+ x heads 2 x head_dim 64.*2\\^46.*nearest"},
    {"summaries overlap k", centroids,
     [](CCall& c) {
         c.problem.scorer = MOBALAB_SCORER_quest;
         c.k.data = moved(c.centroids, batch_centroid_bytes);
     },
     invalid, "centroids at 0x.*overlaps k"},
    // Boundaries of sequences.
    {"cu_seqlens_q alone", moba, [](CCall& c) { c.problem.cu_seqlens_q = c.cu_q; }, invalid, "both or neither"},
    {"cu_seqlens_k alone", moba, [](CCall& c) { c.problem.cu_seqlens_k = c.cu_k; }, invalid, "both or neither"},
    {"cu_seqlens_q misaligned", moba,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.cu_seqlens_q = moved(c.cu_q, 2);
     },
     invalid, "cu_seqlens_q at address 0x.*aligned to 4 bytes.*nearest"},
    {"total_k -1", moba,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.total_k = -1;
     },
     invalid, "total_k = -1: must be"},
    {"total_q max", moba,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.total_q = int64_max;
     },
     invalid, "total_q = 9223372036854775807: must be in \\[0, 2147483647\\]"},
    {"seqlen_q 0 of packed sequences", moba,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.seqlen_q = 0;
     },
     invalid, "seqlen_q = 0: must be the longest sequence's length, at least 48 .*choice: 48"},
    {"seqlen_k 0 of packed sequences", conv,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.seqlen_k = 0;
     },
     invalid, "seqlen_k = 0: must be the longest sequence's length, at least 80 .*choice: 80"},
    {"seqlen_k 79 of packed sequences", centroids,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.seqlen_k = 79;
     },
     invalid, "seqlen_k = 79: must be the longest sequence's length, at least 80 .*choice: 80"},
    {"total_blocks 1", moba,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.total_blocks = 1;
     },
     invalid, "total_blocks = 1: must be"},
    {"total_blocks 12", moba,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.total_blocks = 12;
     },
     invalid, "total_blocks = 12: .*choice: 11", Where::host},
    {"cu_seqlens_k decreasing", moba,
     [](CCall& c) {
         c.cu_k = static_cast<int32_t*>(c.put("cu_k", {0, 170, 160}));
         use_boundaries(c);
         c.problem.seqlen_k = 170;
         c.problem.total_blocks = 11;
     },
     invalid, "cu_seqlens_k\\[2\\] = 160: must not fall below cu_seqlens_k\\[1\\] = 170", Where::host},
    {"cu_seqlens_k not to the end", conv,
     [](CCall& c) {
         c.cu_k = static_cast<int32_t*>(c.put("cu_k", {0, 70, 150}));
         use_boundaries(c);
     },
     invalid, "cu_seqlens_k\\[2\\] = 150: must equal.*160", Where::host},
    {"longer than seqlen_q", moba,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.seqlen_q = 65;
     },
     invalid, "cu_seqlens_q: sequence 1 has 66 tokens.*65.*66", Where::host},
    // Caches.
    {"cache null", decode, [](CCall& c) { c.cache_pointer = nullptr; }, invalid, "cache is null.*nearest valid"},
    {"execution null", append, [](CCall& c) { c.execution_pointer = nullptr; }, invalid, "execution is null.*nearest"},
    {"problem null", decode_route, [](CCall& c) { c.problem_pointer = nullptr; }, invalid, "problem is null.*nearest"},
    {"lengths null", append, [](CCall& c) { c.cache.lengths = nullptr; }, invalid, "lengths is null: must point to 2"},
    {"lengths null", decode, [](CCall& c) { c.cache.lengths = nullptr; }, invalid, "lengths is null: must point to 2"},
    {"lengths misaligned", decode_route, [](CCall& c) { c.cache.lengths = moved(c.cache.lengths, 2); }, invalid,
     "lengths at address 0x.*aligned to 4 bytes"},
    {"lengths 81", decode, [](CCall& c) { c.cache.lengths = static_cast<int32_t*>(c.put("lengths", {80, 81})); }, invalid,
     "lengths\\[1\\] = 81: must be in \\[0, 80\\].*choice: 80", Where::host},
    {"lengths -1", append, [](CCall& c) { c.cache.lengths = static_cast<int32_t*>(c.put("lengths", {-1, 80})); }, invalid,
     "lengths\\[0\\] = -1: must be in \\[0, 80\\].*choice: 0", Where::host},
    {"appended -1", append, [](CCall& c) { c.appended = -1; }, invalid, "appended = -1: must be at least 0.*choice: 0"},
    {"appended min", decode, [](CCall& c) { c.appended = int64_min; }, invalid, "appended = -9223372036854775808: must be"},
    {"cu_seqlens of a cache", decode, use_boundaries, invalid, "cu_seqlens_q is set: must be null.*nearest.*null"},
    {"cu_seqlens_k of a cache", append, [](CCall& c) { c.problem.cu_seqlens_k = c.cu_k; }, invalid, "cu_seqlens_k is set"},
    {"non_causal", decode, [](CCall& c) { c.problem.non_causal = 1; }, invalid, "causal = false: must be true in a step.*: true"},
    {"non_causal", decode_route, [](CCall& c) { c.problem.non_causal = 1; }, invalid, "causal = false: must be true"},
    {"non_causal", decode_attention, [](CCall& c) { c.problem.non_causal = 1; }, invalid, "causal = false: must be true"},
    {"head_dim_v -1", decode, [](CCall& c) { c.problem.head_dim_v = -1; }, invalid, "head_dim_v = -1: must be in.*choice: 0"},
    {"head_dim_v max", decode_attention, [](CCall& c) { c.problem.head_dim_v = int64_max; }, invalid, "head_dim_v = 92233720.*"},
    {"head_dim_v 36", decode_attention, [](CCall& c) { c.problem.head_dim_v = 36; }, unsupported,
     "head_dim_v = 36: .*multiples of 8 up to 256.*: 40", Where::cuda},
    {"head_dim_v 264", decode, [](CCall& c) { c.problem.head_dim_v = 264; }, unsupported, "head_dim_v = 264: .*: 256", Where::cuda},
    {"head_dim_v 65 beside strides of 64", decode,
     [](CCall& c) {
         c.problem.head_dim_v = 65;
         c.v = strided(c.v, 10240, 128, 64);
         c.out = strided(c.out, 12288, 256, 64);
     },
     invalid, "out has strides .* rows of 65 elements", Where::host},
    {"pages of values of head_dim_v", decode,
     [](CCall& c) {
         use_pages(c);
         c.cache.pages = int64_t{1} << 20;
         c.cache.page_size = int64_t{1} << 19;
         c.problem.head_dim_v = 128;
     },
     invalid, "the cache has .*pages 1048576 x page_size 524288 x heads 2 x head_dim_v 128.*2\\^46"},
    {"page_size 0", decode,
     [](CCall& c) {
         use_pages(c);
         c.cache.page_size = 0;
     },
     invalid, "page_size = 0: must be in .*choice: 1"},
    {"page_size max", append,
     [](CCall& c) {
         use_pages(c);
         c.cache.page_size = int64_max;
     },
     invalid, "page_size = 9223372036854775807: must be in"},
    {"pages -1", decode_attention,
     [](CCall& c) {
         use_pages(c);
         c.cache.pages = -1;
     },
     invalid, "pages = -1: must be in .*choice: 0"},
    {"pages x page_size", decode,
     [](CCall& c) {
         use_pages(c);
         c.cache.pages = c.cache.page_size = int32_max;
     },
     invalid, "the cache has .*pages 2147483647 x page_size 2147483647.*2\\^46"},
    {"a page that is none", decode,
     [](CCall& c) {
         use_pages(c);
         c.cache.pages = 9;
     },
     invalid, "block_table\\[0\\]\\[2\\] = 9: must be in \\[0, 8\\].*choice: 8", Where::host},
    {"no pages", append,
     [](CCall& c) {
         use_pages(c);
         c.cache.pages = 0;
     },
     invalid, "block_table\\[0\\]\\[0\\] = 7: must name a page.*none.*lengths of 0", Where::host},
    {"block_table misaligned", decode,
     [](CCall& c) {
         use_pages(c);
         c.cache.block_table = moved(c.cache.block_table, 1);
     },
     invalid, "block_table at address 0x.*aligned to 4 bytes"},
    {"topk 0", decode, [](CCall& c) { c.problem.topk = 0; }, invalid, "topk = 0: must be at least 1.*choice: 1"},
    {"topk 1025", decode_route,
     [](CCall& c) {
         c.problem.topk = 1025;
         c.problem.block_size = 1;
         c.problem.seqlen_k = 5000;
         c.centroids = c.put("centroids", std::vector<int32_t>(10000 * 64));
         c.selection = static_cast<int32_t*>(c.put("selection", std::vector<int32_t>(384 * 1024)));
         c.scores = static_cast<float*>(c.put("scores", std::vector<int32_t>(384 * 1024)));
     },
     unsupported, "topk = 1025: .*at most 1024 of the 5000 blocks.*choice: 1024", Where::cuda},
    {"block_size 0", append, [](CCall& c) { c.problem.block_size = 0; }, invalid, "block_size = 0: must.*: 1"},
    {"head_dim 60", decode, [](CCall& c) { c.problem.head_dim = 60; }, unsupported, "head_dim = 60.*: 64", Where::cuda},
    {"dtype fp32", append, [](CCall& c) { c.problem.dtype = MOBALAB_FP32; }, unsupported, "dtype = fp32.*bf16", Where::cuda},
    {"scorer 78", append, [](CCall& c) { c.problem.scorer = 78; }, invalid, "scorer = 78: .*: 0"},
    {"scorer -1", decode_route, [](CCall& c) { c.problem.scorer = -1; }, invalid, "scorer = -1: must be one of"},
    {"centred quest", decode,
     [](CCall& c) {
         c.problem.scorer = MOBALAB_SCORER_quest;
         c.problem.centroids = MOBALAB_CENTROIDS_CENTRED;
     },
     invalid, "centroids = centred: must go with scorer mean, not quest.*input_dtype"},
    {"scale nan", decode_attention, [](CCall& c) { c.problem.scale = std::nan(""); }, invalid, "scale = -?nan: must be"},
    {"scale 65537", decode, [](CCall& c) { c.problem.scale = 65537.0; }, unsupported, "scale = 65537.*: 65536", Where::cuda},
    {"k null", append, [](CCall& c) { c.k.data = nullptr; }, invalid, "k is null: must point to 20480 elements"},
    {"v null", decode, [](CCall& c) { c.v.data = nullptr; }, invalid, "v is null: must point to 20480 elements"},
    {"q null", decode_route, [](CCall& c) { c.q.data = nullptr; }, invalid, "q is null: must point to 24576 elements"},
    {"centroids null", append, [](CCall& c) { c.centroids = nullptr; }, invalid, "centroids is null"},
    {"centroids null", decode_route, [](CCall& c) { c.centroids = nullptr; }, invalid, "centroids is null"},
    {"selection null", decode, [](CCall& c) { c.selection = nullptr; }, invalid, "selection is null: must point to 768"},
    {"out null", decode_attention, [](CCall& c) { c.out.data = nullptr; }, invalid, "out is null"},
    {"lse null", decode, [](CCall& c) { c.lse = nullptr; }, invalid, "lse is null: must point to 384 elements"},
    {"k.stride_token -1", decode, [](CCall& c) { c.k.stride_token = -1; }, invalid, "k.stride_token = -1: must be at least"},
    {"k.stride_head 65", append, [](CCall& c) { c.k.stride_head = 65; }, invalid, "k.stride_head = 65.*8.*: 72", Where::cuda},
    {"q not on 16 bytes", decode_route, [](CCall& c) { c.q.data = moved(c.q.data, 2); }, invalid, "q at address.*16", Where::cuda},
    {"centroids in k", append, [](CCall& c) { c.centroids = c.k.data; }, invalid, "centroids at 0x.*overlaps k"},
    {"centroids in v", decode, [](CCall& c) { c.centroids = c.v.data; }, invalid, "centroids at 0x.*overlaps v"},
    {"selection == lengths", decode,  // and what lies behind them, which is the workspace where there is one
     [](CCall& c) { c.selection = const_cast<int32_t*>(c.cache.lengths); }, invalid,
     "selection at 0x.*overlaps (lengths|workspace)"},
    {"out == q", decode_attention, [](CCall& c) { c.out = c.q; }, invalid, "out at 0x.*overlaps q"},
    {"workspace null", decode, [](CCall& c) { c.own_workspace = false; }, MOBALAB_WORKSPACE_TOO_SMALL,
     "workspace of 0 bytes: must hold workspace_size.*nearest", Where::cuda},
    // Tensors.
    {"q null", moba, [](CCall& c) { c.q.data = nullptr; }, invalid, "q is null: must point to 24576 elements.*nearest"},
    {"k null", centroids, [](CCall& c) { c.k.data = nullptr; }, invalid, "k is null: must point to 20480 elements"},
    {"v null", attention, [](CCall& c) { c.v.data = nullptr; }, invalid, "v is null: must point to 20480 elements"},
    {"out null", moba, [](CCall& c) { c.out.data = nullptr; }, invalid, "out is null"},
    {"d_out null", backward, [](CCall& c) { c.d_out.data = nullptr; }, invalid, "d_out is null"},
    {"dq null", backward, [](CCall& c) { c.dq.data = nullptr; }, invalid, "dq is null"},
    {"dv null", backward, [](CCall& c) { c.dv.data = nullptr; }, invalid, "dv is null"},
    {"conv out null", conv, [](CCall& c) { c.dk.data = nullptr; }, invalid, "out is null"},
    {"q misaligned", route, [](CCall& c) { c.q.data = moved(c.q.data, 1); }, invalid, "q at address 0x.*aligned to"},
    {"dk misaligned", backward, [](CCall& c) { c.dk.data = moved(c.dk.data, 1); }, invalid, "dk at address 0x.*aligned"},
    {"k not on 16 bytes", moba, [](CCall& c) { c.k.data = moved(c.k.data, 2); }, invalid, "k at address.*16", Where::cuda},
    {"q.stride_token -256", moba, [](CCall& c) { c.q.stride_token = -256; }, invalid, "q.stride_token = -256: .*at least 0"},
    {"k.stride_batch -1", route, [](CCall& c) { c.k.stride_batch = -1; }, invalid, "k.stride_batch = -1: must be at least"},
    {"v.stride_head -64", attention, [](CCall& c) { c.v.stride_head = -64; }, invalid, "v.stride_head = -64: must be at"},
    {"k.stride_token max", conv, [](CCall& c) { c.k.stride_token = int64_max; }, invalid, "k.stride_token = 922.*2\\^46"},
    {"k.stride_token 2^46", conv, [](CCall& c) { c.k.stride_token = int64_t{1} << 46; }, invalid, "k.stride_token = 70"},
    {"k.stride_head 65", moba, [](CCall& c) { c.k.stride_head = 65; }, invalid, "k.stride_head = 65.*8.*: 72", Where::cuda},
    {"k.stride_batch 3", centroids, [](CCall& c) { c.k.stride_batch = 3; }, invalid, "k.stride_batch = 3.*8", Where::cuda},
    {"out.stride_head 0", moba, [](CCall& c) { c.out.stride_head = 0; }, invalid, "out has strides.*must not overlap.*12288"},
    {"out.stride_token 0", moba, [](CCall& c) { c.out.stride_token = 0; }, invalid, "out has strides.*must not overlap"},
    {"dq.stride_batch 0", backward, [](CCall& c) { c.dq.stride_batch = 0; }, invalid, "dq has strides.*must not overlap"},
    {"dk rows that cross", backward, [](CCall& c) { c.dk = strided(c.dk, 64, 64, 64); }, invalid, "dk has strides.*not over"},
    {"dv rows that touch", backward, [](CCall& c) { c.dv.stride_head = 56; }, invalid, "dv has strides.*must not overlap"},
    {"conv out == k", conv, [](CCall& c) { c.dk = c.k; }, invalid, "out at 0x.*overlaps k at 0x.*nearest valid"},
    {"conv out in k", conv, [](CCall& c) { c.dk.data = moved(c.k.data, 256); }, invalid, "out at 0x.*overlaps k"},
    {"conv dk == d_out", conv_backward, [](CCall& c) { c.dk = c.v; }, invalid, "dk at 0x.*overlaps d_out"},
    {"out == q", moba, [](CCall& c) { c.out = c.q; }, invalid, "out at 0x.*overlaps q"},
    {"dk == dv", backward, [](CCall& c) { c.dk = c.dv; }, invalid, "(dv at 0x.*overlaps dk)"},
    {"dq == d_out", backward, [](CCall& c) { c.dq = c.d_out; }, invalid, "dq at 0x.*overlaps d_out"},
    {"scores == selection", route, [](CCall& c) { c.scores = reinterpret_cast<float*>(c.selection); }, invalid,
     "scores at 0x.*overlaps selection"},
    {"centroids in k", centroids, [](CCall& c) { c.centroids = c.k.data; }, invalid, "centroids at 0x.*overlaps k"},
    // Flat arrays.
    {"selection null", route, [](CCall& c) { c.selection = nullptr; }, invalid, "selection is null: must point to 768"},
    {"selection misaligned", attention, [](CCall& c) { c.selection = moved(c.selection, 2); }, invalid,
     "selection at address 0x.*aligned to 4 bytes"},
    {"scores misaligned", route, [](CCall& c) { c.scores = moved(c.scores, 1); }, invalid, "scores at address 0x"},
    {"lse null", moba, [](CCall& c) { c.lse = nullptr; }, invalid, "lse is null: must point to 384 elements"},
    {"lse misaligned", backward, [](CCall& c) { c.lse = moved(c.lse, 2); }, invalid, "lse at address 0x.*to 4 bytes"},
    {"centroids null", route_given, [](CCall& c) { c.centroids = nullptr; }, invalid, "centroids is null"},
    {"weight null", conv, [](CCall& c) { c.weight = nullptr; }, invalid, "weight is null: must point to 512 elements"},
    {"weight misaligned", conv, [](CCall& c) { c.weight = moved(c.weight, 1); }, invalid, "weight at address 0x"},
    {"d_weight null", conv_backward, [](CCall& c) { c.d_weight = nullptr; }, invalid, "d_weight is null"},
    {"d_weight == weight", conv_backward, [](CCall& c) { c.d_weight = c.weight; }, invalid, "d_weight at 0x.*overlaps"},
    // The workspace.
    {"workspace null", moba, [](CCall& c) { c.own_workspace = false; }, MOBALAB_WORKSPACE_TOO_SMALL,
     "workspace of 0 bytes: must hold workspace_size.*nearest", Where::cuda},
    {"workspace too small", moba,
     [](CCall& c) {
         c.make_workspace();
         c.own_workspace = false;
         --c.execution.workspace_bytes;
     },
     MOBALAB_WORKSPACE_TOO_SMALL, "workspace of [0-9]+ bytes: must hold", Where::cuda},
    {"workspace misaligned", moba,
     [](CCall& c) {
         c.make_workspace();
         c.own_workspace = false;
         c.execution.workspace = moved(c.execution.workspace, 16);
     },
     invalid, "workspace at address 0x.*aligned to 256 bytes", Where::cuda},
    {"workspace == q", moba,
     [](CCall& c) {
         c.make_workspace();
         c.own_workspace = false;
         c.q.data = c.execution.workspace;
     },
     invalid, "workspace at 0x.*overlaps q", Where::cuda},

    // Taken, with right numbers.
    {"as it is", centroids, [](CCall&) {}, ok, ""},
    {"as it is", route, [](CCall&) {}, ok, ""},
    {"as it is", route_given, [](CCall&) {}, ok, ""},
    {"as it is", attention, [](CCall&) {}, ok, ""},
    {"as it is", moba, [](CCall&) {}, ok, ""},
    {"as it is", backward, [](CCall&) {}, ok, ""},
    {"as it is", conv, [](CCall&) {}, ok, ""},
    {"as it is", conv_centroids, [](CCall&) {}, ok, ""},
    {"as it is", conv_backward, [](CCall&) {}, ok, ""},
    {"as it is", append, [](CCall&) {}, ok, ""},
    {"as it is", decode_route, [](CCall&) {}, ok, ""},
    {"as it is", decode_attention, [](CCall&) {}, ok, ""},
    {"as it is", decode, [](CCall&) {}, ok, ""},
    {"pages", append, use_pages, ok, ""},
    {"pages", decode_attention, use_pages, ok, ""},
    {"pages", decode, use_pages, ok, ""},
    {"pages twice", decode,
     [](CCall& c) {
         use_pages(c);
         c.cache.block_table = static_cast<int32_t*>(c.put("table", {7, 2, 9, 0, 4, 7, 2, 8, 5, 123456789}));
     },
     ok, ""},
    {"pages of 2 keys, as strides", decode,
     [](CCall& c) {
         std::vector<int32_t> table;
         for (int32_t i = 0; i < 80; ++i) table.push_back(i * 7 % 80);
         c.cache.block_table = static_cast<int32_t*>(c.put("table", table));
         c.cache.pages = 80;
         c.cache.page_size = 2;
         c.k = strided(c.k, 256, 64, 128);
     },
     ok, ""},
    {"head_dim_v 0", decode, [](CCall& c) { c.problem.head_dim_v = 0; }, ok, ""},
    {"head_dim_v 64", decode_attention, [](CCall& c) { c.problem.head_dim_v = 64; }, ok, ""},
    {"head_dim_v 32", decode_attention, [](CCall& c) { c.problem.head_dim_v = 32; }, ok, ""},
    {"head_dim_v 8", decode, [](CCall& c) { c.problem.head_dim_v = 8; }, ok, ""},
    {"values of 64 beside keys of 32", decode,
     [](CCall& c) {
         c.problem.head_dim = 32;
         c.problem.head_dim_v = 64;
     },
     ok, ""},
    {"pages, head_dim_v 32", decode,
     [](CCall& c) {
         use_pages(c);
         c.problem.head_dim_v = 32;
     },
     ok, ""},
    {"a step's routing looks at no head_dim_v", decode_route, [](CCall& c) { c.problem.head_dim_v = -1; }, ok, ""},
    {"appending looks at no head_dim_v", append,
     [](CCall& c) {
         use_pages(c);
         c.problem.head_dim_v = int64_max;
     },
     ok, ""},
    {"page_size of no table", decode,
     [](CCall& c) {
         c.cache.page_size = nonsense;
         c.cache.pages = nonsense;
     },
     ok, ""},
    {"nothing appended", decode, [](CCall& c) { c.appended = 0; }, ok, ""},
    {"everything appended", append, [](CCall& c) { c.appended = int64_max; }, ok, ""},
    {"empty sequences", decode, [](CCall& c) { c.cache.lengths = static_cast<int32_t*>(c.put("lengths", {0, 0})); }, ok, ""},
    {"a sequence shorter than its queries", decode,
     [](CCall& c) { c.cache.lengths = static_cast<int32_t*>(c.put("lengths", {5, 80})); }, ok, ""},
    {"quest", append, [](CCall& c) { keep(c, MOBALAB_SCORER_quest, 1, 2); }, ok, ""},
    {"quest", decode, [](CCall& c) { keep(c, MOBALAB_SCORER_quest, 1, 2); }, ok, ""},
    {"max", decode, [](CCall& c) { keep(c, MOBALAB_SCORER_max, 1, 1); }, ok, ""},
    {"submean of 8", decode, [](CCall& c) { keep(c, MOBALAB_SCORER_submean, 8, 8); }, ok, ""},
    {"random keeps nothing", append, keep_nothing, ok, "", Where::host},
    {"random keeps nothing", decode, keep_nothing, ok, "", Where::host},
    {"centred", decode, [](CCall& c) { c.problem.centroids = MOBALAB_CENTROIDS_CENTRED; }, ok, ""},
    {"keep_first", decode, [](CCall& c) { c.problem.keep_first = 1; }, ok, ""},
    {"scale", decode, [](CCall& c) { c.problem.scale = 0.03; }, ok, ""},
    {"scores null", decode_route,
     [](CCall& c) {
         c.scores = nullptr;
         c.put("scores", std::vector<int32_t>(768, 7));
     },
     ok, ""},
    {"queries of keys alone are ignored", append,
     [](CCall& c) {
         c.problem.heads_q = -3;
         c.problem.topk = -1;
     },
     ok, ""},
    {"attention looks at no scorer", decode_attention, [](CCall& c) { c.problem.scorer = 77; }, ok, ""},
    {"block_size 17", decode, [](CCall& c) { c.problem.block_size = 17; }, ok, ""},
    {"head_dim 40", decode, [](CCall& c) { c.problem.head_dim = 40; }, ok, ""},
    {"own block alone", decode, [](CCall& c) { c.problem.topk = 1; }, ok, ""},
    {"no keys to grow to", decode,
     [](CCall& c) {
         c.problem.seqlen_k = 0;
         c.cache.lengths = static_cast<int32_t*>(c.put("lengths", {0, 0}));
         c.k.data = c.v.data = nullptr;
     },
     ok, ""},
    {"no queries", decode,
     [](CCall& c) {
         c.problem.seqlen_q = 0;
         c.q.data = c.out.data = nullptr;
     },
     ok, ""},
    {"attention looks at no scorer", attention,
     [](CCall& c) {
         c.problem.scorer = 77;
         c.problem.sub_blocks = -5;
     },
     ok, ""},
    {"nor does its backward pass", backward,
     [](CCall& c) {
         c.problem.scorer = int32_min;
         c.problem.sub_blocks = 0;
     },
     ok, ""},
    {"nor does the convolution", conv, [](CCall& c) { c.problem.scorer = -1; }, ok, ""},
    {"quest", route, [](CCall& c) { c.problem.scorer = MOBALAB_SCORER_quest; }, ok, "", Where::host},
    {"quest", moba, [](CCall& c) { c.problem.scorer = MOBALAB_SCORER_quest; }, ok, "", Where::host},
    {"quest", centroids, [](CCall& c) { keep(c, MOBALAB_SCORER_quest, 1, 2); }, ok, "", Where::host},
    {"quest", conv_centroids, [](CCall& c) { keep(c, MOBALAB_SCORER_quest, 1, 2); }, ok, "", Where::host},
    {"quest, variable lengths", moba,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.scorer = MOBALAB_SCORER_quest;
     },
     ok, "", Where::host},
    {"max", moba, [](CCall& c) { c.problem.scorer = MOBALAB_SCORER_max; }, ok, "", Where::host},
    {"max", centroids, [](CCall& c) { keep(c, MOBALAB_SCORER_max, 1, 1); }, ok, "", Where::host},
    {"submean of 1", route, [](CCall& c) { divide(c, 1); }, ok, "", Where::host},
    {"submean of 4", route, [](CCall& c) { divide(c, 4); }, ok, "", Where::host},
    {"submean of single keys", moba, [](CCall& c) { divide(c, 16); }, ok, "", Where::host},
    {"submean of 8", centroids, [](CCall& c) { keep(c, MOBALAB_SCORER_submean, 8, 8); }, ok, "", Where::host},
    {"submean of 8", route_given, [](CCall& c) { keep(c, MOBALAB_SCORER_submean, 8, 8); }, ok, "", Where::host},
    {"random", route, [](CCall& c) { c.problem.scorer = MOBALAB_SCORER_random; }, ok, "", Where::host},
    {"random, largest seed", moba,
     [](CCall& c) {
         c.problem.scorer = MOBALAB_SCORER_random;
         c.problem.scorer_seed = ~uint64_t{0};
     },
     ok, "", Where::host},
    {"random keeps nothing", centroids, keep_nothing, ok, "", Where::host},
    {"random keeps nothing", conv_centroids, keep_nothing, ok, "", Where::host},
    {"random needs no centroids", route_given, keep_nothing, ok, "", Where::host},
    {"non_causal", route, make_non_causal, ok, ""},
    {"non_causal", route_given, make_non_causal, ok, ""},
    {"non_causal, submean", moba,
     [](CCall& c) {
         divide(c, 8);
         make_non_causal(c);
     },
     ok, ""},
    {"non_causal", attention, make_non_causal, ok, ""},
    {"non_causal", moba, make_non_causal, ok, ""},
    {"non_causal", backward, make_non_causal, ok, ""},
    {"non_causal, variable lengths", moba,
     [](CCall& c) {
         use_boundaries(c);
         make_non_causal(c);
     },
     ok, ""},
    {"non_causal of too many slots", route,
     [](CCall& c) {
         c.problem.non_causal = 1;
         c.selection = nullptr;
     },
     invalid, "selection is null: must point to 1152 elements"},
    {"centroids look at no non_causal", centroids, [](CCall& c) { c.problem.non_causal = 1; }, ok, ""},
    {"keep_first", route, [](CCall& c) { c.problem.keep_first = 1; }, ok, ""},
    {"keep_first", route_given, [](CCall& c) { c.problem.keep_first = 1; }, ok, ""},
    {"keep_first", moba, [](CCall& c) { c.problem.keep_first = 1; }, ok, ""},
    {"keep_first of two", route,
     [](CCall& c) {
         c.problem.keep_first = 1;
         c.problem.topk = 2;
     },
     ok, ""},
    {"keep_first of one", moba,
     [](CCall& c) {
         c.problem.keep_first = 1;
         c.problem.topk = 1;
     },
     ok, ""},
    {"keep_first of all blocks", route,
     [](CCall& c) {
         c.problem.keep_first = 1;
         c.problem.topk = int64_max;
         c.selection = static_cast<int32_t*>(c.put("selection", std::vector<int32_t>(384 * 4)));
         c.scores = static_cast<float*>(c.put("scores", std::vector<int32_t>(384 * 4)));
     },
     ok, ""},
    {"keep_first, variable lengths", moba,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.keep_first = 1;
     },
     ok, ""},
    {"keep_first, random", route,
     [](CCall& c) {
         c.problem.scorer = MOBALAB_SCORER_random;
         c.problem.keep_first = 1;
     },
     ok, "", Where::host},
    {"backward looks at no keep_first", backward, [](CCall& c) { c.problem.keep_first = 1; }, ok, ""},
    {"nor do centroids", centroids, [](CCall& c) { c.problem.keep_first = 1; }, ok, ""},
    {"scale", attention, [](CCall& c) { c.problem.scale = 0.75; }, ok, ""},
    {"scale", moba, [](CCall& c) { c.problem.scale = 0.03; }, ok, ""},
    {"scale", backward, [](CCall& c) { c.problem.scale = 0.25; }, ok, ""},
    {"large scale, of exact scores", moba, [](CCall& c) { c.problem.scale = 0x1p90; }, ok, "", Where::host},
    {"scale 65537", moba, [](CCall& c) { c.problem.scale = 65537.0; }, unsupported, "scale = 65537: .*at most 65536.*: 65536", Where::cuda},
    {"scale 1e30", backward, [](CCall& c) { c.problem.scale = 1e30; }, unsupported, "scale = 1e\\+30: .*: 65536", Where::cuda},
    {"scale 65536", moba, [](CCall& c) { c.problem.scale = 65536.0; }, ok, ""},
    {"smallest scale", moba, [](CCall& c) { c.problem.scale = 1e-30; }, ok, ""},
    {"routing looks at no scale", route, [](CCall& c) { c.problem.scale = -INFINITY; }, ok, ""},
    {"seed of another scorer", route, [](CCall& c) { c.problem.scorer_seed = ~uint64_t{0}; }, ok, ""},
    {"variable lengths", moba, use_boundaries, ok, ""},
    {"variable lengths", backward, use_boundaries, ok, ""},
    {"cu_seqlens_k alone, keys alone", conv,
     [](CCall& c) {
         use_boundaries(c);
         c.problem.cu_seqlens_q = nullptr;
     },
     ok, ""},
    {"cu_seqlens_k alone, keys alone", centroids,
     [](CCall& c) {
         use_boundaries(c);
         c.centroids = c.put("centroids", std::vector<int32_t>(11 * 64));
         c.problem.cu_seqlens_q = nullptr;
     },
     ok, ""},
    {"cu_seqlens_q alone, keys alone", conv, [](CCall& c) { c.problem.cu_seqlens_q = c.cu_q; }, ok, ""},
    {"queries of keys alone are ignored", conv_backward,
     [](CCall& c) {
         c.problem.heads_q = -3;
         c.problem.seqlen_q = int64_max;
         c.problem.block_size = 0;
         c.problem.topk = -1;
     },
     ok, ""},
    {"scores null", route,
     [](CCall& c) {
         c.scores = nullptr;
         c.put("scores", std::vector<int32_t>(768, 7));
     },
     ok, ""},
    {"block_size 2^31 - 1", moba, [](CCall& c) { c.problem.block_size = int32_max; }, ok, "", Where::host},
    {"block_size 2^31 - 1", backward, [](CCall& c) { c.problem.block_size = int32_max; }, ok, "", Where::host},
    {"topk of all blocks", route,
     [](CCall& c) {
         c.problem.topk = 5;
         c.selection = static_cast<int32_t*>(c.put("selection", std::vector<int32_t>(384 * 4)));
         c.scores = static_cast<float*>(c.put("scores", std::vector<int32_t>(384 * 4)));
     },
     ok, ""},
    {"topk max", route,
     [](CCall& c) {
         c.problem.topk = int64_max;
         c.selection = static_cast<int32_t*>(c.put("selection", std::vector<int32_t>(384 * 4)));
         c.scores = static_cast<float*>(c.put("scores", std::vector<int32_t>(384 * 4)));
     },
     ok, ""},
    {"threads 4096", moba, [](CCall& c) { c.execution.threads = 4096; }, ok, ""},
    {"k, v of one head", moba,
     [](CCall& c) {
         c.k = strided(c.k, 5120, 64, 0);
         c.v = strided(c.v, 5120, 64, 0);
     },
     ok, ""},
    {"q, d_out of one token", backward,
     [](CCall& c) {
         c.q.stride_token = 0;
         c.q.stride_batch = 256;
         c.d_out.stride_token = 0;
     },
     ok, ""},
    {"k of one sequence", conv_centroids, [](CCall& c) { c.k.stride_batch = 0; }, ok, ""},
    {"one row for all", route,
     [](CCall& c) {
         c.q = strided(c.q, 0, 0, 0);
         c.k = strided(c.k, 0, 0, 0);
     },
     ok, ""},
    {"heads before tokens", moba,
     [](CCall& c) {
         c.q = strided(c.q, 12288, 64, 3072);
         c.out = strided(c.out, 12288, 64, 3072);
     },
     ok, ""},
    {"sequence first", backward,
     [](CCall& c) {
         c.k = strided(c.k, 128, 256, 64);
         c.dk = strided(c.dk, 128, 256, 64);
         c.dq = strided(c.dq, 256, 512, 64);
     },
     ok, ""},
    {"strides nobody uses", moba,
     [](CCall& c) {
         c.problem.batch = 1;
         c.problem.heads_k = 1;
         c.problem.seqlen_q = 1;
         c.q = strided(c.q, nonsense, nonsense, 64);
         c.out = strided(c.out, nonsense, nonsense, 64);
         c.k = strided(c.k, nonsense, 64, nonsense);
         c.v = strided(c.v, nonsense, 64, nonsense);
     },
     ok, ""},
    {"one query at batch 2, as a slice", moba,
     [](CCall& c) {
         c.problem.seqlen_q = 1;
         c.q = strided({moved(c.q.data, 47 * 512), 0, 0, 0}, 48 * 256, 256, 64);
     },
     ok, ""},
    {"dq, dk, dv of one packed tensor", backward,
     [](CCall& c) {
         c.problem.seqlen_q = c.problem.seqlen_k = 40;
         c.problem.heads_q = c.problem.heads_k = 1;
         c.dk = strided({moved(c.dq.data, 128), 0, 0, 0}, 40 * 192, 192, 64);
         c.dv = strided({moved(c.dq.data, 256), 0, 0, 0}, 40 * 192, 192, 64);
         c.dq = strided(c.dq, 40 * 192, 192, 64);
     },
     ok, ""},
    {"selection of anything", attention,
     [](CCall& c) {
         std::vector<int32_t> hostile(768);
         const std::vector<int32_t> kinds = {-1, int32_min, int32_max, 0, 0, 1, 4, 5, 2, 2, 3};
         for (std::size_t i = 0; i < hostile.size(); ++i) hostile[i] = kinds[i * 7 % kinds.size()];
         c.selection = static_cast<int32_t*>(c.put("selection", hostile));
     },
     ok, ""},
    {"selection of anything", backward,
     [](CCall& c) {
         std::vector<int32_t> hostile(768);
         for (std::size_t i = 0; i < hostile.size(); ++i) hostile[i] = static_cast<int32_t>(i / 2 * 5 % 9) - 2;
         c.selection = static_cast<int32_t*>(c.put("selection", hostile));
     },
     ok, ""},
    {"block_size 16384", moba, [](CCall& c) { c.problem.block_size = 16384; }, ok, ""},
    {"block_size 17", moba, [](CCall& c) { c.problem.block_size = 17; }, ok, ""},
    {"block_size 17", backward, [](CCall& c) { c.problem.block_size = 17; }, ok, ""},
    {"block_size 3", moba, [](CCall& c) { c.problem.block_size = 3; }, ok, ""},
    {"block_size 30", backward, [](CCall& c) { c.problem.block_size = 30; }, ok, ""},
    {"head_dim 40", moba, [](CCall& c) { c.problem.head_dim = 40; }, ok, ""},
    {"head_dim 48", backward, [](CCall& c) { c.problem.head_dim = 48; }, ok, ""},
    {"head_dim 8", route, [](CCall& c) { c.problem.head_dim = 8; }, ok, ""},
    {"head_dim 56", centroids, [](CCall& c) { c.problem.head_dim = 56; }, ok, ""},
    {"head_dim 24", conv_backward, [](CCall& c) { c.problem.head_dim = 24; }, ok, ""},
    {"more queries than keys", moba, [](CCall& c) { c.problem.seqlen_k = 40; }, ok, ""},
    {"more queries than keys", backward, [](CCall& c) { c.problem.seqlen_k = 20; }, ok, ""},
    {"more queries than keys, variable lengths", moba,
     [](CCall& c) {
         c.cu_k = static_cast<int32_t*>(c.put("cu_k", {0, 5, 60}));
         use_boundaries(c);
         c.problem.total_k = 60;
         c.problem.total_blocks = 1 + 4;
     },
     ok, ""},
    {"queries without keys", moba,
     [](CCall& c) {
         c.problem.seqlen_k = 0;
         c.k.data = c.v.data = nullptr;
         c.put("selection", std::vector<int32_t>(768, 7));
     },
     ok, ""},
    {"queries without keys", backward,
     [](CCall& c) {
         c.problem.seqlen_k = 0;
         c.k.data = c.v.data = c.dk.data = c.dv.data = nullptr;
     },
     ok, ""},
    {"no queries", backward,
     [](CCall& c) {
         c.problem.seqlen_q = 0;
         c.q.data = c.out.data = c.d_out.data = nullptr;
         c.selection = nullptr;
     },
     ok, ""},
    {"no keys", conv_backward,
     [](CCall& c) {
         c.problem.seqlen_k = 0;
         c.problem.batch = int32_max / 2;
         c.k.data = c.v.data = nullptr;
     },
     ok, "", Where::host},
};

std::vector<double> numbers(const std::string& name, const std::vector<unsigned char>& bytes) {
    std::vector<double> result;
    if (name == "selection") {
        for (std::size_t i = 0; i + 4 <= bytes.size(); i += 4) {
            int32_t x = 0;
            std::memcpy(&x, bytes.data() + i, 4);
            result.push_back(x);
        }
        return result;
    }
    const bool wide = name == "lse" || name == "scores" || name == "d_weight";
    const std::size_t size = wide ? 4 : 2;
    for (std::size_t i = 0; i + size <= bytes.size(); i += size) {
        uint32_t bits = 0;
        std::memcpy(&bits, bytes.data() + i, size);
        if (!wide) bits <<= 16;
        float x = 0.0F;
        std::memcpy(&x, &bits, 4);
        result.push_back(x);
    }
    return result;
}

/// |got - want| / |want| over what is not NaN; NaN has to be where NaN is: nothing else was written.
double relative_error(const std::vector<double>& got, const std::vector<double>& want) {
    double difference = 0.0;
    double norm = 1e-30;
    for (std::size_t i = 0; i < want.size(); ++i) {
        if (std::isnan(got[i]) != std::isnan(want[i])) return std::numeric_limits<double>::quiet_NaN();
        if (std::isnan(got[i]) || (std::isinf(got[i]) && got[i] == want[i])) continue;
        difference += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return std::sqrt(difference / norm);
}

MobalabStatus run_changed(CCall& call, const Row& row) {
    row.change(call);
    if (row.operation == backward) {  // its inputs: the outputs of the forward pass
        call.operation = attention;
        if (call.run() != ok) return MOBALAB_DEVICE_ERROR;
    }
    call.operation = row.operation;
    return call.run();
}

bool has_right_numbers(const CCall& call, const Row& row) {
    const CBackend judge_backend = host_backend("cpu_reference", MOBALAB_CPU_REFERENCE);
    CCall judge(judge_backend);
    const MobalabStatus status = run_changed(judge, row);
    if (status != ok) std::fprintf(stderr, "the judge: %s\n", judge.message.c_str());
    const auto want = judge.outputs();
    bool right = status == ok;
    for (const auto& [name, bytes] : call.outputs()) {
        const double error = relative_error(numbers(name, bytes), numbers(name, want.at(name)));
        const double most = name == "selection" ? 0.0 : 1.5e-2;
        if (error <= most) continue;
        std::fprintf(stderr, "%s is off by %g\n", name.c_str(), error);
        right = false;
    }
    return right;
}

struct Answer {
    int code;  ///< the status; wrong_numbers where it is good and they are not
    std::string message;
};
constexpr int wrong_numbers = 100;

Answer answer_to(const CBackend& backend, const Row& row) {
    CCall call(backend);
    if (row.status == ok) {
        const MobalabStatus status = run_changed(call, row);
        return {status == ok && !has_right_numbers(call, row) ? wrong_numbers : status, call.message};
    }
    call.operation = row.operation;
    row.change(call);
    const MobalabStatus status = call.run();
    return {status, call.message};
}

/// In a process of its own.
[[noreturn]] void run_row(const CBackend& backend, const Row& row) {
    const Answer answer = answer_to(backend, row);
    std::fprintf(stderr, "%s\n", answer.message.c_str());
    std::fflush(stderr);
    std::_Exit(answer.code);
}

#ifdef MOBALAB_ARGUMENTS_CUDA
void must(cudaError_t error) {
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
    std::_Exit(101);
}
std::vector<CBackend> backends() {
    return {
        {"cuda", MOBALAB_CUDA,
         [](std::size_t size) {
             void* data = nullptr;
             must(cudaMalloc(&data, size));
             return data;
         },
         [](void* data) { must(cudaFree(data)); },
         [](void* to, const void* from, std::size_t size) { must(cudaMemcpy(to, from, size, cudaMemcpyHostToDevice)); },
         [](void* to, const void* from, std::size_t size) {
             must(cudaDeviceSynchronize());
             must(cudaMemcpy(to, from, size, cudaMemcpyDeviceToHost));
         }}};
}
#else
std::vector<CBackend> backends() {
    return {host_backend("cpu", MOBALAB_CPU), host_backend("cpu_reference", MOBALAB_CPU_REFERENCE)};
}
#endif

struct Asked {
    CBackend backend;
    std::size_t row;
};
std::vector<Asked> tests() {
    std::vector<Asked> result;
    for (const CBackend& backend : backends()) {
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const bool cuda = backend.number == MOBALAB_CUDA;
            if (rows[i].where == (cuda ? Where::host : Where::cuda)) continue;
            result.push_back({backend, i});
        }
    }
    return result;
}
void PrintTo(const Asked& test, std::ostream* out) {
    *out << rows[test.row].argument;
}

/// Asked in a process of its own as well: one that has used CUDA cannot fork.
bool has_device(const CBackend& backend) {
    const pid_t child = fork();
    if (child == 0) std::_Exit(mobalab_backend_available(backend.number, nullptr, 0) == MOBALAB_UNSUPPORTED_DEVICE);
    int status = 1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

class CArgumentsDeathTest : public testing::TestWithParam<Asked> {};

TEST_P(CArgumentsDeathTest, IsRefusedOrRight) {
    const Row& row = rows[GetParam().row];
    const CBackend& backend = GetParam().backend;
    static const bool available = has_device(backend);
    if (!available) GTEST_SKIP() << "backend " << backend.name << " has no device here";
    EXPECT_EXIT(run_row(backend, row), testing::ExitedWithCode(row.status), row.message) << row.argument;
}

std::string test_name(const testing::TestParamInfo<Asked>& info) {
    std::string name = info.param.backend.name + "_" + std::to_string(info.param.row) + "_";
    for (const char* c = rows[info.param.row].argument; *c != '\0'; ++c) name += std::isalnum(*c) != 0 ? *c : '_';
    return name;
}

INSTANTIATE_TEST_SUITE_P(Table, CArgumentsDeathTest, testing::ValuesIn(tests()), test_name);

/// The same once more without a fork, which compute-sanitizer does not follow; after the death tests, as gtest orders
/// them. A crash ends it here.
TEST(CArguments, InOneProcess) {
    if (!has_device(backends().front())) GTEST_SKIP() << "no device here";
    for (const Asked& test : tests()) {
        const Row& row = rows[test.row];
        SCOPED_TRACE(test.backend.name + ", " + row.argument);
        const Answer answer = answer_to(test.backend, row);
        EXPECT_EQ(answer.code, row.status) << answer.message;
        EXPECT_TRUE(std::regex_search(answer.message, std::regex(row.message))) << answer.message;
    }
}

/// What is not a call with tensors.
TEST(CInterface, QuestionsAreCheckedToo) {
    char text[256] = "";
    MobalabProblem problem{};
    uint64_t bytes = 7;
    EXPECT_EQ(mobalab_abi(), 6);
    EXPECT_EQ(mobalab_workspace_size(99, &problem, MOBALAB_CPU, &bytes, text, sizeof(text)), invalid);
    EXPECT_NE(std::string(text).find("operation = 99"), std::string::npos) << text;
    EXPECT_EQ(mobalab_workspace_size(route, &problem, MOBALAB_CPU, nullptr, text, sizeof(text)), invalid);
    EXPECT_NE(std::string(text).find("bytes is null"), std::string::npos) << text;
    EXPECT_EQ(mobalab_workspace_size(route, nullptr, MOBALAB_CPU, &bytes, text, sizeof(text)), invalid);
    EXPECT_NE(std::string(text).find("problem is null"), std::string::npos) << text;
    EXPECT_EQ(mobalab_workspace_size(route, &problem, MOBALAB_CPU, &bytes, text, sizeof(text)), invalid);
    EXPECT_NE(std::string(text).find("batch = 0"), std::string::npos) << text;
    MobalabScorerInfo info{};
    for (const int32_t wrong : {-1, int32_t{MOBALAB_SCORER_COUNT}, int32_max, int32_min}) {
        EXPECT_EQ(mobalab_scorer_info(wrong, &info, text, sizeof(text)), invalid);
        EXPECT_NE(std::string(text).find("scorer = " + std::to_string(wrong) + ": must be in [0, "), std::string::npos);
        EXPECT_EQ(info.name, nullptr);
    }
    EXPECT_EQ(mobalab_scorer_info(0, nullptr, text, sizeof(text)), invalid);
    EXPECT_NE(std::string(text).find("info is null"), std::string::npos) << text;
    EXPECT_EQ(mobalab_scorer_info(MOBALAB_SCORER_submean, &info, text, sizeof(text)), ok);
    EXPECT_STREQ(info.name, "submean");
    EXPECT_EQ(info.parts, 1);
    EXPECT_EQ(info.divides, 1);
    EXPECT_EQ(mobalab_backend_available(-4, text, sizeof(text)), invalid);
    EXPECT_NE(std::string(text).find("backend = -4"), std::string::npos) << text;
    EXPECT_EQ(mobalab_backend_available(-4, text, 4), invalid);
    EXPECT_STREQ(text, "bac");
    EXPECT_EQ(mobalab_backend_available(-4, nullptr, 0), invalid);
    EXPECT_EQ(bytes, 7U);
}

}  // namespace
}  // namespace mobalab::kernels::testing_support
