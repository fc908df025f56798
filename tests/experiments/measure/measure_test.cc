// The table of `measure` on a trace of small integers against the definitions, written down once more in double.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

#include "experiments/measure/quantities.h"
#include "kernels/kernels.h"
#include "tests/experiments/captured.h"
#include "tests/experiments/measure/synthetic_trace.h"

namespace mobalab::experiments {
namespace {

constexpr std::uint64_t seed = 20251128;
constexpr double confidence = 0.9;

class Measure : public testing::Test {
protected:
    std::string trace_file(const SyntheticTrace& trace) const {
        spill(folder_ / "trace.safetensors", safetensors_bytes(trace.file));
        return folder_ / "trace.safetensors";
    }

    static nlohmann::json rows_of(const std::string& line) {
        const Captured run = run_captured(words("measure " + line + " --json"));
        EXPECT_EQ(run.code, 0) << run.err;
        return nlohmann::json::parse(run.out);
    }

    TemporaryFolder folder_;
};

double number(const nlohmann::json& row, std::string_view name) {
    const nlohmann::json& value = row.at(std::string(name));
    return value.is_null() ? std::nan("") : value.get<double>();
}

/// Masses and statistics of scores are rounded to fp32 a row, outputs are fp32 throughout.
double allowed(std::string_view name, double value) {
    return (name.starts_with("output_error") ? 1e-4 : 1e-5) * std::max(1.0, std::abs(value));
}

void expect_same(const nlohmann::json& row, const std::map<std::string, double>& judged, std::string_view name) {
    const double value = number(row, name);
    const double wanted = judged.at(std::string(name));
    const bool missing = !std::isfinite(wanted);  // JSON has no infinity either
    EXPECT_EQ(std::isnan(value), missing) << name << " " << value << " " << wanted << " " << row.dump();
    if (!missing) {
        EXPECT_NEAR(value, wanted, allowed(name, wanted)) << name << " of " << row.dump();
    }
}

/// Where routed blocks of scorer random lie, and its output, hang on hash scores of head 0 that the judge draws too.
void compare_with_judge(const std::string& path, const SyntheticTrace& trace, const nlohmann::json& rows) {
    ASSERT_FALSE(rows.empty()) << path;
    std::vector<Rows> products;
    for (const JudgedHead& head : trace.heads) {
        products.push_back(affinities(head));
    }
    for (const nlohmann::json& row : rows) {
        JudgedHead head = trace.heads[row.at("head").get<std::size_t>()];
        head.seed = 7;
        const JudgedSetting setting{row.at("block_size"), row.at("topk"), row.at("scorer"), row.at("keep_first") == 1};
        const auto judged = judge(head, products[row.at("head").get<std::size_t>()], setting, confidence);
        for (const QuantityText& text : count_texts) {
            expect_same(row, judged, text.name);
        }
        for (const QuantityText& text : quantity_texts) {
            expect_same(row, judged, text.name);
        }
    }
}

const std::string grid =
    " --block-size 16,64,512 --topk 1,2,9 --scorer mean,quest,max,submean-4,random,window,cum2,oracle --keep-first both"
    " --skip-impossible --seed 7 --confidence 0.9";

TEST_F(Measure, EveryColumnIsWhatItsDefinitionSays) {
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    const SyntheticTrace trace = synthetic_trace(seed, "fp32");
    const std::string path = trace_file(trace);
    const nlohmann::json rows = rows_of(path + grid);
    EXPECT_EQ(rows.size(), 2U * 16U * 8U);  // topk 9 is more than the 3 blocks of 512 keys
    compare_with_judge(path, trace, rows);
}

TEST_F(Measure, SixteenBitTracesAreRoutedInTheirOwnType) {
    const SyntheticTrace trace = synthetic_trace(seed + 1, "bf16");
    const std::string path = trace_file(trace);
    const nlohmann::json rows = rows_of(path + grid + " --head 1");
    compare_with_judge(path, trace, rows);
    double changed = 0.0;
    for (const nlohmann::json& row : rows) {
        changed += row.at("scorer") == "mean" ? number(row, "rounding_changed") : 0.0;
    }
    EXPECT_GT(changed, 0.0);  // else the column was not tried
}

TEST_F(Measure, UnroundedSummariesAreThoseOfFp32) {
    const std::string path = trace_file(synthetic_trace(seed + 1, "bf16"));
    const std::string line = path + " --head 0 --scorer mean,submean-2,cum2 --block-size 64 --topk 5";
    nlohmann::json exact = rows_of(line + " --dtype fp32");
    nlohmann::json kept = rows_of(line + " --centroids fp32");
    const nlohmann::json rounded = rows_of(line);
    EXPECT_NE(exact[0].at("margin"), rounded[0].at("margin"));
    for (std::size_t i = 0; i < exact.size(); ++i) {
        for (const QuantityText& text : quantity_texts) {
            EXPECT_EQ(exact[i].at(std::string(text.name)), kept[i].at(std::string(text.name))) << text.name;
        }
    }
}

TEST_F(Measure, ARowDependsNeitherOnThreadsNorOnTheGrid) {
    const std::string path = trace_file(synthetic_trace(seed, "bf16"));
    const nlohmann::json rows = rows_of(path + grid + " --threads 1");
    EXPECT_EQ(rows, rows_of(path + grid + " --threads 3"));
    const nlohmann::json alone =
        rows_of(path + " --head 1 --block-size 64 --topk 2 --scorer quest --keep-first on --confidence 0.9");
    ASSERT_EQ(alone.size(), 1U);
    EXPECT_NE(std::find(rows.begin(), rows.end(), alone[0]), rows.end());
}

TEST_F(Measure, ABudgetIsKeysWhateverTheBlock) {
    const std::string path = trace_file(synthetic_trace(seed, "fp32"));
    const nlohmann::json rows = rows_of(path + " --head 0 --block-size 16:64:x2 --budget 256 --topk 4");
    std::vector<std::pair<int, int>> settings;
    for (const nlohmann::json& row : rows) {
        settings.emplace_back(row.at("block_size"), row.at("topk"));
    }
    EXPECT_EQ(settings, (std::vector<std::pair<int, int>>{{16, 4}, {16, 16}, {32, 4}, {32, 8}, {64, 4}}));
}

TEST_F(Measure, APartOfTheRowsIsAnEstimateOfAll) {
    const SyntheticTrace trace = synthetic_trace(seed, "fp32");
    const std::string path = trace_file(trace);
    const nlohmann::json part = rows_of(path + " --head 0 --rows 100 --confidence 0.9");
    ASSERT_EQ(part[0].at("rows"), 128);
    SyntheticTrace cut = trace;  // the only stretch of 128 rows that begins at a multiple of 128
    cut.heads[0].q.erase(cut.heads[0].q.begin(), cut.heads[0].q.begin() + 24);
    cut.heads[0].q.resize(128);
    cut.heads[0].q_start = 1024;
    compare_with_judge(path, cut, part);
}

TEST_F(Measure, WrongInputGetsOneLine) {
    const std::string path = trace_file(synthetic_trace(seed, "fp32"));
    const std::vector<std::pair<std::string, std::string>> wrong = {
        {"", "traces: name at least one trace"},
        {folder_ / "none.safetensors", "none.safetensors"},
        {path + " --block-size 0", "block-size"},
        {path + " --block-size 1256", "block-size = 1256: the last query of"},
        {path + " --topk 0", "topk"},
        {path + " --topk 21", "nearest valid: topk = 20"},
        {path + " --budget 100", "budget = 100 with block-size = 64: must be whole blocks; nearest valid: 128"},
        {path + " --budget 0", "budget"},
        {path + " --scorer meen",
         "scorer = meen: must be one of mean, quest, max, submean-R, random, window, cum2, oracle; "
         "nearest valid: mean"},
        {path + " --scorer mean,mean", "appears twice"},
        {path + " --scorer submean-3", "sub-blocks must divide the block; nearest valid: submean-"},
        {path + " --keep-first yes", "keep-first = yes: must be one of off, on, both"},
        {path + " --layer 4", "layer = 4:"},
        {path + " --head 2", "head = 2:"},
        {path + " --rows -1", "rows"},
        {path + " --device gpu", "device = gpu: must be one of cpu, cuda, auto"},
        {path + " --dtype fp8", "dtype = fp8: must be one of fp32, bf16, fp16, auto"},
        {path + " --centroids bf16", "centroids = bf16: must be one of dtype, fp32"},
        {path + " --confidence 2", "confidence"},
        {path + " --threads -1", "threads"},
        {path + " --seed -1", "seed"},
        {path + " --force", "name it with --out"},
        {path + " --json --csv", "give one of the two"}};
    for (const auto& [line, message] : wrong) {
        const Captured run = run_captured(words("measure " + line));
        EXPECT_EQ(run.code, 2) << line;
        EXPECT_EQ(run.out, "") << line;
        EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
        EXPECT_NE(run.err.find(message), std::string::npos) << line << "\n" << run.err;
    }
}

TEST_F(Measure, NumbersBeyondFp16AreRefused) {
    SyntheticTrace trace = synthetic_trace(seed, "fp32");
    std::string& keys = trace.file.tensor("k").bytes;
    const std::string large = element("fp32", 70000.0F);
    keys.replace(keys.size() - large.size(), large.size(), large);
    const Captured run = run_captured(words("measure " + trace_file(trace) + " --dtype fp16"));
    EXPECT_EQ(run.code, 2);
    EXPECT_NE(run.err.find("beyond fp16"), std::string::npos) << run.err;
}

TEST_F(Measure, WithoutACudaDeviceAutoTakesTheCpu) {
    if (kernels::backend_available(kernels::Backend::cuda).ok()) {
        GTEST_SKIP() << "this machine has a CUDA device";
    }
    const std::string path = trace_file(synthetic_trace(seed, "bf16"));
    const Captured cuda = run_captured(words("measure " + path + " --device cuda"));
    EXPECT_EQ(cuda.code, 2);
    EXPECT_NE(cuda.err.find("device = cuda: "), std::string::npos) << cuda.err;
    const Captured automatic = run_captured(words("measure " + path + " --device auto --csv"));
    EXPECT_EQ(automatic.code, 0);
    EXPECT_NE(automatic.err.find("--device auto takes cpu"), std::string::npos) << automatic.err;
    EXPECT_EQ(automatic.out, run_captured(words("measure " + path + " --csv")).out);
}

}  // namespace
}  // namespace mobalab::experiments
