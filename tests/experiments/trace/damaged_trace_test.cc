// Files that are no trace, each with the line that says why.

#include <gtest/gtest.h>

#include "tests/experiments/trace/trace_answer.h"
#include "tests/experiments/trace/trace_files.h"

namespace mobalab::experiments {
namespace {

using kernels::DataType;

TestTrace sample() {
    return sample_trace(DataType::bf16, false);
}

struct MetadataCase {
    std::string name;
    std::string value;  ///< "-": is missing
    std::string message;
};

TEST(DamagedTrace, MetadataThatDoNotFit) {
    const std::vector<MetadataCase> cases = {
        {"format", "-", "metadata format is missing; what a qkv-trace holds is in experiments/trace/README.md"},
        {"format", "qk-trace", "metadata format = \"qk-trace\": must be qkv-trace; nearest valid: qkv-trace"},
        {"format_version", "2", "metadata format_version = \"2\": must be 1"},
        {"layout", "head,token,dim", "metadata layout = \"head,token,dim\": must be token,head,dim"},
        {"scale", "0", "metadata scale = \"0\": must be a number above 0, as in 0.125"},
        {"scale", "-1", "metadata scale = \"-1\": must be a number above 0, as in 0.125"},
        {"scale", "nan", "metadata scale = \"nan\": must be a number above 0, as in 0.125"},
        {"scale", "inf", "metadata scale = \"inf\": must be a number above 0, as in 0.125"},
        {"scale", "1e999", "metadata scale = \"1e999\": must be a number above 0, as in 0.125"},
        {"scale", "0,125", "metadata scale = \"0,125\": must be a number above 0, as in 0.125"},
        {"scale", "", "metadata scale = \"\": must be a number above 0, as in 0.125"},
        {"causal", "0", "metadata causal = \"0\": must be 1"},
        {"rope", "yes", "metadata rope = \"yes\": must be post or pre or none"},
        {"rope_dim", "9", "metadata rope_dim = \"9\": must be from 1 to 8; nearest valid: 8"},
        {"rope_theta", "0", "metadata rope_theta = \"0\": must be a number above 0, as in 0.125"},
        {"rope_layout", "halves",
         "metadata rope_layout = \"halves\": must be half or interleaved; nearest valid: half"},
        {"query_heads", "5", "metadata query_heads = \"5\": must be a multiple of key_heads = 2; nearest valid: 4"},
        {"query_heads", "6", "tensor q has shape [6, 4, 8]: must be [rows, heads, dim] = [6, 6, 8]"},
        {"key_heads", "4", "tensor k has shape [9, 2, 8]: must be [rows, heads, dim] = [9, 4, 8]"},
        {"key_heads", "0", "metadata key_heads = \"0\": must be from 1 to 4; nearest valid: 1"},
        {"key_heads", "99999999999999999999",
         "metadata key_heads = \"99999999999999999999\": must be from 1 to 4; nearest valid: 4"},
        {"head_dim", "16", "tensor q has shape [6, 4, 8]: must be [rows, heads, dim] = [6, 4, 16]"},
        {"head_dim", "8.0", "metadata head_dim = \"8.0\": must be a whole number from 1 to 65536, in digits"},
        {"tokens", "8", "k has 9 rows: must be at most metadata tokens = 8"},
        {"q_start", "4", "q has 6 rows from q_start = 4 on: the last one needs 10 keys, k has 9"},
        {"q_start", "-1", "metadata q_start = \"-1\": must be from 0 to 9; nearest valid: 0"},
        {"k_start", "1", "metadata k_start = \"1\": must be from 0 to 0; nearest valid: 0"},
        {"dtype", "float16", "metadata dtype = \"float16\": must be fp32 or bf16 or fp16"},
        {"dtype", "fp16", "tensor q has elements BF16: must be fp16, as metadata dtype says"},
        {"layer", "12", "metadata layer = \"12\": must be from 0 to 11; nearest valid: 11"},
        {"layer", "-",
         "metadata layer (or recorded_layers, of several) is missing: which of the model's layers this is, from 0"},
        {"recorded_layers", "7",
         "metadata layer = \"7\": a trace of one layer says layer, of several recorded_layers; take one of "
         "them out"},
        {"needles", "[", "metadata needles: is no valid JSON: "},
        {"needles", "{}", "metadata needles: must be a list of objects with query, key and fact"},
        {"needles", "[1]", "metadata needles[0]: must be an object with query, key and fact"},
        {"needles", R"([{"query":[6],"fact":[1,4]}])", "metadata needles[0]: must have a list key of token numbers"},
        {"needles", R"([{"query":[10],"key":[2],"fact":[1,4]}])",
         "metadata needles[0]: query holds 10: must be whole numbers from 0 to 9 (a text of 10 tokens)"},
        {"needles", R"([{"query":[6],"key":[-2],"fact":[1,4]}])",
         "metadata needles[0]: key holds -2: must be whole numbers from 0 to 9 (a text of 10 tokens)"},
        {"needles", R"([{"query":[6],"key":[2,3],"fact":[1,4]}])",
         "metadata needles[0]: 1 queries and 2 keys: must be as many, pair by pair"},
        {"needles", R"([{"query":[6],"key":[6],"fact":[1,4]}])",
         "metadata needles[0]: key 6 is not before its query 6, which cannot look it up"},
        {"needles", R"([{"query":[6],"key":[2],"fact":[4,4]}])",
         "metadata needles[0]: fact must be [its first token, the token behind its last]"},
        {"needles", R"([{"query":[6],"key":[2],"key":[3],"fact":[1,4]}])",
         "metadata needles: is no valid JSON: has the key \"key\" twice"},
        {"needles", std::string(100, '['), "metadata needles: is no valid JSON: is more than 8 levels deep"}};
    for (const MetadataCase& damage : cases) {
        TestTrace trace = sample();
        if (damage.value == "-") {
            trace.metadata.erase(damage.name);
        } else {
            trace.metadata[damage.name] = damage.value;
        }
        const std::string said = answer(safetensors_bytes(trace));
        EXPECT_EQ(said.substr(0, damage.message.size()), damage.message);
        EXPECT_TRUE(said == damage.message || damage.message.ends_with(": ")) << said;
    }
}

TEST(DamagedTrace, LayersThatDoNotFit) {
    const auto with = [](const std::string& recorded) {
        TestTrace trace = sample_trace(DataType::bf16, true);
        trace.metadata["recorded_layers"] = recorded;
        return answer(safetensors_bytes(trace));
    };
    EXPECT_EQ(with("0,5,11"), "accepted");
    EXPECT_EQ(with("0,5"), "tensor layers.11.k: is of none of the layers that metadata recorded_layers names: 0,5");
    EXPECT_EQ(with("0,5,10,11"), "tensor layers.10.q is missing; the file says that it holds layers 0,5,10,11");
    EXPECT_EQ(with("5,0,11"), "metadata recorded_layers = \"5,0,11\": must ascend, as in 0,5,10");
    EXPECT_EQ(with("0,5,"), "metadata recorded_layers = \"0,5,\": must be a whole number from 0 to 11, in digits");
    EXPECT_EQ(with("0,5,12"), "metadata recorded_layers = \"0,5,12\": must be from 0 to 11; nearest valid: 11");
    TestTrace trace = sample_trace(DataType::bf16, true);
    trace.tensor("layers.5.v").name = "layers.5.w";
    EXPECT_EQ(answer(safetensors_bytes(trace)),
              "tensor layers.5.w: is of none of the layers that metadata recorded_layers names: 0,5,11");
    trace.tensor("layers.5.w").name = "w";
    EXPECT_EQ(answer(safetensors_bytes(trace)),
              "tensor layers.5.v is missing; the file says that it holds layers 0,5,11");
    trace = sample();
    trace.tensors[0].name = "layers.7.q";
    EXPECT_EQ(answer(safetensors_bytes(trace)),
              "tensor layers.7.q: a trace of one layer has q, k and v; of several, metadata recorded_layers instead of "
              "layer");
}

TEST(DamagedTrace, TensorsThatDoNotFit) {
    TestTrace trace = sample();
    trace.tensor("q").shape = {24, 8};
    EXPECT_EQ(answer(safetensors_bytes(trace)),
              "tensor q has shape [24, 8]: must be [rows, heads, dim] = [rows, 4, 8]");
    trace = sample();
    trace.tensor("v").shape = {5, 2, 9};
    EXPECT_EQ(answer(safetensors_bytes(trace)), "tensor v has shape [5, 2, 9]: must be [rows, heads, dim] = [9, 2, 9]");
    trace = sample();
    trace.tensor("q").shape = {0, 4, 8};
    trace.tensor("q").bytes.clear();
    EXPECT_EQ(answer(safetensors_bytes(trace)),
              "tensor q has shape [0, 4, 8]: must be [rows, heads, dim] = [rows, 4, 8]");
    trace = sample();
    trace.tensor("token_ids").shape = {5, 2};
    EXPECT_EQ(answer(safetensors_bytes(trace)),
              "tensor token_ids of I32 has shape [5, 2]: must be 32-bit integers [10], one a token");
}

}  // namespace
}  // namespace mobalab::experiments
