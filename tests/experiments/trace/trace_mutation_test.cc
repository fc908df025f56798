// Damaged traces, thousands of each container: the numbers that stand in the file, or an error; never a crash or a
// hang. The seed is fixed; MOBALAB_TEST_SEED gives another.

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/experiments/commands/mutations.h"
#include "tests/experiments/trace/trace_answer.h"
#include "tests/experiments/trace/trace_files.h"

namespace mobalab::experiments {
namespace {

using kernels::DataType;

std::uint64_t test_seed() {
    const char* given = std::getenv("MOBALAB_TEST_SEED");
    const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : 20251128;
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    return seed;
}

std::vector<std::string> telling_pieces() {
    return {"\"q\"",
            "\"data_offsets\":[0,384]",
            "[0,0]",
            "18446744073709551615",
            "-1",
            "{",
            "}",
            "[",
            "]",
            "1e9",
            "\"BF16\"",
            "\"F32\"",
            "PK\1\2",
            "PK\3\4",
            "PK\5\6",
            "PK\6\6",
            "'<f4'",
            "(6,4,8,)",
            "\"dtype\":\"F16\"",
            "__metadata__",
            "recorded_layers",
            std::string(8, '\0'),
            std::string(8, '\xff')};
}

/// Every head of every layer, as they are read.
std::vector<std::vector<std::byte>> all_heads(const Trace& trace) {
    std::vector<std::vector<std::byte>> heads;
    for (const std::int64_t layer : trace.layers()) {
        for (std::int64_t head = 0; head < trace.info().query_heads; ++head) {
            heads.push_back(trace.queries(layer, head).bytes);
        }
        for (std::int64_t head = 0; head < trace.info().key_heads; ++head) {
            heads.push_back(trace.keys(layer, head).bytes);
            if (trace.has_values()) {
                heads.push_back(trace.values(layer, head).bytes);
            }
        }
    }
    return heads;
}

struct Counts {
    int refused = 0;
    int read = 0;
};

/// `judge` looks at what was read of a damaged file.
template <typename Judge>
Counts damage(const std::string& whole, int cases, const Judge& judge) {
    Mutator mutator(test_seed(), telling_pieces());
    const TemporaryFolder folder;
    const std::string path = folder / "x";
    Counts counts;
    for (int i = 0; i < cases; ++i) {
        const std::string damaged = mutator.damaged(whole);
        spill(path, damaged);
        SCOPED_TRACE(testing::Message() << "case " << i);
        try {
            const Trace trace = Trace::open(path);
            judge(trace, all_heads(trace), damaged);
            ++counts.read;
        } catch (const FileError& error) {
            ++counts.refused;
            EXPECT_EQ(std::string(error.what()).find(path + ": "), 0U) << error.what();
            EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
        }  // anything else ends the test
        if (testing::Test::HasFailure()) {
            break;
        }
    }
    return counts;
}

/// The heads of a safetensors file by its header alone, without any check.
std::vector<std::vector<std::byte>> heads_by_header(const std::string& file, const Trace& trace) {
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof length);
    const nlohmann::json header = nlohmann::json::parse(file.substr(8, length));
    std::vector<std::vector<std::byte>> heads;
    const auto take = [&](const std::string& name, std::int64_t head) {
        const auto shape = header.at(name).at("shape").get<std::vector<std::size_t>>();
        const std::size_t begin = 8 + length + header.at(name).at("data_offsets")[0].get<std::size_t>();
        const std::size_t piece = shape[2] * kernels::size_of(trace.dtype());
        std::vector<std::byte>& bytes = heads.emplace_back();
        for (std::size_t row = 0; row < shape[0]; ++row) {
            const auto* from = reinterpret_cast<const std::byte*>(file.data()) + begin +
                               (row * shape[1] + static_cast<std::size_t>(head)) * piece;
            bytes.insert(bytes.end(), from, from + piece);
        }
    };
    for (std::int64_t head = 0; head < trace.info().query_heads; ++head) {
        take("q", head);
    }
    for (std::int64_t head = 0; head < trace.info().key_heads; ++head) {
        take("k", head);
        if (trace.has_values()) {
            take("v", head);
        }
    }
    return heads;
}

TEST(TraceMutation, OfSafetensorsIsReadAsItStandsOrRefused) {
    const Counts counts = damage(safetensors_bytes(sample_trace(DataType::bf16, false)), 10'000,
                                 [](const Trace& trace, const auto& heads, const std::string& file) {
                                     if (trace.layers() == std::vector<std::int64_t>{7}) {
                                         EXPECT_EQ(heads, heads_by_header(file, trace));
                                     }
                                 });
    EXPECT_GT(counts.refused, 5000);
    EXPECT_GT(counts.read, 200) << "nothing is read of the damaged files: right values are not tested";
}

/// Members carry a checksum, so that no number of theirs can differ.
TEST(TraceMutation, OfNpzIsReadAsItWasOrRefused) {
    for (const bool deflated : {false, true}) {
        const TestTrace trace = sample_trace(DataType::fp32, true);
        const std::string whole = npz_bytes(trace, deflated);
        const TemporaryFolder folder;
        spill(folder / "whole", whole);
        const auto right = all_heads(Trace::open(folder / "whole"));
        const Counts counts = damage(whole, 5000, [&](const Trace& read, const auto& heads, const std::string&) {
            EXPECT_EQ(heads, right);
            EXPECT_EQ(read.info().metadata, trace.metadata);
        });
        EXPECT_GT(counts.refused, 2500);
        EXPECT_GT(counts.read, 20);
    }
}

/// HDF5 has no checksums here, and its library crashes and hangs on some of these: in a process of its own.
TEST(TraceMutation, OfHdf5IsReadOrRefused) {
    const TemporaryFolder folder;
    for (const Hdf5Layout layout : {Hdf5Layout::contiguous, Hdf5Layout::gzip}) {
        write_hdf5(folder / "whole", sample_trace(DataType::fp16, false), layout);
        const Counts counts =
            damage(slurp(folder / "whole"), 250, [](const Trace& trace, const auto& heads, const std::string&) {
                const auto& info = trace.info();
                EXPECT_EQ(heads.size(),
                          static_cast<std::size_t>(info.query_heads + (trace.has_values() ? 2 : 1) * info.key_heads));
                EXPECT_EQ(heads[0].size(),
                          static_cast<std::size_t>(info.queries * info.head_dim) * kernels::size_of(trace.dtype()));
            });
        EXPECT_GT(counts.refused, 50);
    }
}

}  // namespace
}  // namespace mobalab::experiments
