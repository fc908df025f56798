#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>

#include "experiments/results/csv_text.h"
#include "tests/experiments/captured.h"

namespace mobalab::experiments {
namespace {

TEST(Csv, IsThatOfRfc4180) {
    Table table{.name = "t", .columns = {}};
    table.columns = {
        {"text", "", "", std::vector<std::string>{"plain", "a,b", "say \"yes\"", "two\nlines", " blank ", ""}},
        {"count", "", "1", std::vector<std::int64_t>{1, -1, 3, 9007199254740993, 0, 7}, "", -1},
        {"share", "", "1", std::vector<double>{0.1 + 0.2, NAN, 1e-300, 2.0, -0.5, HUGE_VAL}}};
    EXPECT_EQ(csv_table(table),
              "text,count,share\n"
              "plain,1,0.30000000000000004\n"
              "\"a,b\",,\n"
              "\"say \"\"yes\"\"\",3,1e-300\n"
              "\"two\nlines\",9007199254740993,2\n"
              "\" blank \",0,-0.5\n"
              ",7,inf\n");
}

TEST(Csv, WhatIsWrittenIsReadBack) {
    const TemporaryFolder folder;
    Table table{.name = "t", .columns = {}};
    const std::vector<std::string> texts = {"plain", "a,b", "say \"yes\"", "two\r\nlines", " blank "};
    const std::vector<double> numbers = {1.0 / 3.0, std::numeric_limits<double>::denorm_min(), 1e308, 0.1, 2.0 / 3.0};
    table.columns = {{"text", "", "", texts}, {"number", "", "1", numbers}};
    spill(folder / "t.csv", csv_table(table));
    const CsvRows read = read_csv(folder / "t.csv", 5);
    EXPECT_EQ(read.header, (std::vector<std::string>{"text", "number"}));
    ASSERT_EQ(read.rows.size(), texts.size());
    for (std::size_t row = 0; row < texts.size(); ++row) {
        EXPECT_EQ(read.rows[row].cells[0], texts[row]);
        EXPECT_EQ(std::strtod(read.rows[row].cells[1].c_str(), nullptr), numbers[row]);
    }
    EXPECT_EQ(read.rows.back().line, 7) << "a cell of two lines";
    EXPECT_THROW(read_csv(folder / "t.csv", 4), FileError);
}

TEST(Csv, EveryCommandPrintsIt) {
    for (const char* line : {"theory", "simulate --trials 100", "route --probes 128 --seq-len 1K --topk 2",
                             "validate --probes 128 --trials 100 --seq-len 1K --topk 2",
                             "bench --repeats 3 --max-seconds 0 --seq-len 256 --topk 2"}) {
        const Captured csv = run_captured(words(std::string(line) + " --csv"));
        ASSERT_EQ(csv.code, 0) << csv.err;
        const auto json = nlohmann::ordered_json::parse(run_captured(words(std::string(line) + " --json")).out);
        std::string header;
        for (const auto& [name, value] : json[0].items()) {
            header += (header.empty() ? "" : ",") + name;
        }
        EXPECT_EQ(csv.out.substr(0, csv.out.find('\n')), header);
        EXPECT_EQ(static_cast<std::size_t>(std::count(csv.out.begin(), csv.out.end(), '\n')), json.size() + 1);
    }
    EXPECT_EQ(run_captured(words("theory --csv --json")).err,
              "mobalab theory: error: json, csv: are two ways to print one table; give one of the two\n");
}

TEST(Csv, TheTablesOfAFileComeOutAsTheyWentIn) {
    const TemporaryFolder folder;
    const std::string path = folder / "a.h5";
    const Captured run = run_captured(words("simulate --head-dim 32,64 --trials 500 --csv --out " + path));
    ASSERT_EQ(run.code, 0) << run.err;
    EXPECT_EQ(run_captured({"table", path, "--csv"}).out, run.out);
    EXPECT_EQ(run_captured({"table", path, "--table", "simulate", "--csv"}).out, run.out);
    EXPECT_EQ(nlohmann::json::parse(run_captured({"table", path, "--json"}).out)[1]["head_dim"], 64);
    EXPECT_EQ(run_captured({"table", path}).out.find("simulate: 2 rows, "), 0U);
    EXPECT_NE(run_captured({"table", path, "--table", "simulate"}).out.find("stop_reason"), std::string::npos);
    EXPECT_EQ(run_captured({"table", path, "--table", "simulated"}).err,
              "mobalab table: error: table = simulated: must be simulate; nearest valid: simulate\n");
    EXPECT_EQ(run_captured({"table"}).err,
              "mobalab table: error: file: name a results file, like mobalab table results.h5 --csv\n");
}

}  // namespace
}  // namespace mobalab::experiments
