// A trace has the same numbers in every container, dtype and layout.

#include "experiments/trace/trace.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <limits>

#include "experiments/base/regular_file.h"
#include "tests/experiments/captured.h"
#include "tests/experiments/trace/trace_files.h"

namespace mobalab::experiments {
namespace {

using kernels::DataType;

enum class Container { safetensors, npz, npz_compressed, hdf5, hdf5_chunked, hdf5_gzip };
constexpr Container containers[] = {Container::safetensors, Container::npz,          Container::npz_compressed,
                                    Container::hdf5,        Container::hdf5_chunked, Container::hdf5_gzip};

void write(const std::string& path, const TestTrace& trace, Container container) {
    switch (container) {
        case Container::safetensors:
            return spill(path, safetensors_bytes(trace));
        case Container::npz:
            return spill(path, npz_bytes(trace, false));
        case Container::npz_compressed:
            return spill(path, npz_bytes(trace, true));
        case Container::hdf5:
            return write_hdf5(path, trace, Hdf5Layout::contiguous);
        case Container::hdf5_chunked:
            return write_hdf5(path, trace, Hdf5Layout::chunked);
        case Container::hdf5_gzip:
            return write_hdf5(path, trace, Hdf5Layout::gzip);
    }
}

void expect_sample(char letter, std::int64_t layer, std::int64_t head, const HeadRows& rows) {
    const std::vector<float> values = rows.to_float();
    ASSERT_EQ(std::ssize(values), rows.rows * rows.head_dim);
    for (std::int64_t row = 0; row < rows.rows; ++row) {
        for (std::int64_t channel = 0; channel < rows.head_dim; ++channel) {
            ASSERT_EQ(values[static_cast<std::size_t>(row * rows.head_dim + channel)],
                      sample_value(letter, layer, row, head, channel))
                << letter << " of layer " << layer << ", head " << head << ", row " << row << ", channel " << channel;
        }
    }
}

void expect_samples(const Trace& trace, DataType dtype) {
    for (const std::int64_t layer : trace.layers()) {
        for (std::int64_t head = 0; head < 4; ++head) {
            const HeadRows q = trace.queries(layer, head);
            EXPECT_EQ(q.dtype, dtype);
            EXPECT_EQ(q.rows, 6);
            EXPECT_EQ(q.head_dim, 8);
            EXPECT_EQ(q.bytes.size(), 48 * kernels::size_of(dtype));
            expect_sample('q', layer, head, q);
        }
        for (std::int64_t head = 0; head < 2; ++head) {
            EXPECT_EQ(trace.keys(layer, head).rows, 9);
            EXPECT_EQ(trace.values(layer, head).head_dim, 5);
            expect_sample('k', layer, head, trace.keys(layer, head));
            expect_sample('v', layer, head, trace.values(layer, head));
        }
    }
}

class EveryContainer : public testing::TestWithParam<Container> {
protected:
    TemporaryFolder folder_;
    std::string path_ = folder_ / "a trace";  // its contents say what it is, not its name
};

TEST_P(EveryContainer, HasTheNumbersThatWereWritten) {
    for (const DataType dtype : {DataType::fp32, DataType::bf16, DataType::fp16}) {
        for (const bool several : {false, true}) {
            SCOPED_TRACE(testing::Message()
                         << kernels::to_string(dtype) << (several ? ", several layers" : ", one layer"));
            write(path_, sample_trace(dtype, several), GetParam());
            const Trace trace = Trace::open(path_);
            EXPECT_EQ(trace.layers(), several ? (std::vector<std::int64_t>{0, 5, 11}) : (std::vector<std::int64_t>{7}));
            EXPECT_EQ(trace.dtype(), dtype);
            EXPECT_TRUE(trace.has_values());
            expect_samples(trace, dtype);
        }
    }
}

TEST_P(EveryContainer, HasTheMetadata) {
    const TestTrace written = sample_trace(DataType::bf16, false);
    write(path_, written, GetParam());
    const Trace trace = Trace::open(path_);
    const TraceInfo& info = trace.info();
    EXPECT_EQ(trace.path(), path_);
    EXPECT_EQ(info.metadata, written.metadata);
    EXPECT_EQ(info.model, "a model");
    EXPECT_EQ(info.text, "ten words");
    EXPECT_EQ(info.rope, "post");
    EXPECT_EQ(info.rope_layout, "half");
    EXPECT_EQ(info.rope_theta, 10000.0);
    EXPECT_EQ(info.rope_dim, 8);
    EXPECT_EQ(info.scale, 0.25);
    EXPECT_TRUE(info.causal);
    EXPECT_EQ((std::vector{info.query_heads, info.key_heads, info.head_dim, info.value_dim, info.tokens, info.q_start,
                           info.k_start, info.queries, info.keys}),
              (std::vector<std::int64_t>{4, 2, 8, 5, 10, 3, 0, 6, 9}));
    ASSERT_EQ(info.needles.size(), 1U);
    EXPECT_EQ(info.needles[0].name, "Lyon");
    EXPECT_EQ(info.needles[0].query, (std::vector<std::int64_t>{6, 7}));
    EXPECT_EQ(info.needles[0].key, (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(info.needles[0].fact_begin, 1);
    EXPECT_EQ(info.needles[0].fact_end, 4);
}

TEST_P(EveryContainer, MayLackValuesAndWhatIsOptional) {
    TestTrace written = sample_trace(DataType::fp16, true);
    std::erase_if(written.tensors,
                  [](const TestTensor& tensor) { return tensor.name.ends_with("v") || tensor.name == "token_ids"; });
    for (const char* name : {"model", "text", "layers", "rope_theta", "rope_dim", "rope_layout", "needles"}) {
        written.metadata.erase(name);
    }
    written.tensors.push_back({"gate", "fp32", {2}, std::string(8, '\0')});  // is nobody's
    write(path_, written, GetParam());
    const Trace trace = Trace::open(path_);
    EXPECT_FALSE(trace.has_values());
    EXPECT_EQ(trace.info().value_dim, 0);
    EXPECT_TRUE(trace.info().needles.empty());
    expect_sample('k', 11, 1, trace.keys(11, 1));
    EXPECT_THROW(trace.values(11, 1), FileError);
}

TEST_P(EveryContainer, NamesTheTokenThatIsNotFinite) {
    for (const DataType dtype : {DataType::fp32, DataType::bf16, DataType::fp16}) {
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                                -std::numeric_limits<float>::infinity()}) {
            TestTrace written = sample_trace(dtype, false);
            const std::string value = element(std::string(kernels::to_string(dtype)), bad);
            const std::size_t place = ((2 * 4 + 3) * 8 + 6) * value.size();  // row 2, head 3, channel 6
            written.tensor("q").bytes.replace(place, value.size(), value);
            write(path_, written, GetParam());
            const Trace trace = Trace::open(path_);
            expect_sample('q', 7, 2, trace.queries(7, 2));  // the other heads are whole
            try {
                trace.queries(7, 3);
                FAIL() << "accepted";
            } catch (const FileError& error) {
                EXPECT_EQ(std::string(error.what()),
                          path_ +
                              ": q of layer 7, head 3: token 5, channel 6 is NaN or infinite; every "
                              "statistic of the head would be, so record it again or leave the head out");
            }
        }
    }
}

TEST_P(EveryContainer, FollowsALinkAndSeesThatTheFileWasCut) {
    write(path_, sample_trace(DataType::fp32, false), GetParam());
    const std::string link = folder_ / "link";
    std::filesystem::create_symlink(path_, link);
    const Trace trace = Trace::open(link);
    expect_samples(trace, DataType::fp32);
    std::filesystem::resize_file(path_, 100);
    EXPECT_THROW(trace.queries(7, 0), FileError);
}

/// The old file is read on; HDF5 opens by path, and says that it cannot.
TEST_P(EveryContainer, ThatIsReplacedIsNotMixedWithTheNewOne) {
    write(path_, sample_trace(DataType::fp32, false), GetParam());
    const Trace trace = Trace::open(path_);
    TestTrace other = sample_trace(DataType::fp32, false);
    other.tensor("q").bytes.assign(other.tensor("q").bytes.size(), '\0');
    write(folder_ / "new", other, GetParam());
    std::filesystem::rename(folder_ / "new", path_);
    if (GetParam() < Container::hdf5) {
        return expect_samples(trace, DataType::fp32);
    }
    try {
        trace.queries(7, 0);
        FAIL() << "accepted";
    } catch (const FileError& error) {
        EXPECT_EQ(error.what(), path_ + ": was replaced since it was opened; start again when nothing writes to it");
    }
}

std::string container_name(const testing::TestParamInfo<Container>& container) {
    constexpr const char* names[] = {"safetensors", "npz", "npz_compressed", "hdf5", "hdf5_chunked", "hdf5_gzip"};
    return names[static_cast<int>(container.param)];
}

INSTANTIATE_TEST_SUITE_P(Trace, EveryContainer, testing::ValuesIn(containers), container_name);

TEST(Trace, RefusesLayersAndHeadsItHasNot) {
    const TemporaryFolder folder;
    const std::string path = folder / "a.safetensors";
    spill(path, safetensors_bytes(sample_trace(DataType::bf16, true)));
    const Trace trace = Trace::open(path);
    const auto message = [&](auto&& read) -> std::string {
        try {
            read();
            return "accepted";
        } catch (const FileError& error) {
            return std::string(error.what()).substr(path.size() + 2);
        }
    };
    EXPECT_EQ(message([&] { trace.queries(4, 0); }), "layer = 4: must be one of the layers in the file: 0,5,11");
    EXPECT_EQ(message([&] { trace.queries(5, 4); }), "head = 4: q has heads 0 to 3; nearest valid: 3");
    EXPECT_EQ(message([&] { trace.keys(5, -1); }), "head = -1: k has heads 0 to 1; nearest valid: 0");
    EXPECT_EQ(message([&] { trace.values(0, 2); }), "head = 2: v has heads 0 to 1; nearest valid: 1");
}

/// 128K tokens x 32 heads x 128 channels in 8 layers, 12 GiB that the file system does not store.
TEST(Trace, OfTwelveGibibytesIsReadInAFewHeadsOfMemory) {
    constexpr std::int64_t tokens = 131072;
    TestTrace trace = sample_trace(DataType::fp16, true);
    trace.tensors.clear();
    trace.metadata.erase("needles");
    trace.metadata["tokens"] = std::to_string(tokens);
    trace.metadata["q_start"] = "0";
    trace.metadata["query_heads"] = "32";
    trace.metadata["key_heads"] = "8";
    trace.metadata["head_dim"] = "128";
    trace.metadata["recorded_layers"] = "0,1,2,3,4,5,6,7";
    std::string header = R"({"__metadata__":{)";
    for (const auto& [name, value] : trace.metadata) {
        header += (header.back() == '{' ? "\"" : ",\"") + name + "\":\"" + value + "\"";
    }
    header += "}";
    std::int64_t at = 0;
    for (int layer = 0; layer < 8; ++layer) {
        for (const char letter : {'q', 'k', 'v'}) {
            const std::int64_t heads = letter == 'q' ? 32 : 8;
            const std::int64_t end = at + tokens * heads * 128 * 2;
            header += ",\"layers." + std::to_string(layer) + "." + letter + R"(":{"dtype":"F16","shape":[)" +
                      std::to_string(tokens) + "," + std::to_string(heads) + R"(,128],"data_offsets":[)" +
                      std::to_string(at) + "," + std::to_string(end) + "]}";
            at = end;
        }
    }
    header += "}";
    const TemporaryFolder folder;
    const std::string path = folder / "a.safetensors";
    spill(path, safetensors_bytes(header, ""));
    if (::truncate(path.c_str(), static_cast<off_t>(8 + header.size()) + at) != 0) {
        GTEST_SKIP() << "no file of 12 GiB can be made here";
    }
    rusage before{};
    getrusage(RUSAGE_SELF, &before);
    const Trace opened = Trace::open(path);
    for (const std::int64_t layer : {0, 7}) {
        const HeadRows q = opened.queries(layer, 31);
        EXPECT_EQ(q.bytes.size(), std::size_t{32} << 20);
        EXPECT_EQ(opened.keys(layer, 7).rows, tokens);
    }
    rusage after{};
    getrusage(RUSAGE_SELF, &after);
    EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 160 << 10) << "KiB: two heads and their readers";
}

}  // namespace
}  // namespace mobalab::experiments
