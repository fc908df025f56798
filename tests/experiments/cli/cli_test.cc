#include "experiments/commands/subcommands.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "analysis/hit_probability.h"
#include "experiments/commands/subcommands.h"
#include "experiments/points/point_grid.h"
#include "experiments/results/atomic_file.h"
#include "experiments/results/results_file.h"
#include "tests/experiments/captured.h"

namespace mobalab::experiments {
namespace {

using nlohmann::json;

/// stderr of a command line that must fail with exit code 2 and print nothing else.
std::string error_of(const std::vector<std::string>& args) {
    const Captured run = run_captured(args);
    EXPECT_EQ(run.code, 2);
    EXPECT_EQ(run.out, "");
    return run.err;
}

std::string error_of(const std::string& line) {
    return error_of(words(line));
}

json rows_of(const std::string& line) {
    const Captured run = run_captured(words(line));
    EXPECT_EQ(run.code, 0) << run.err;
    return json::parse(run.out, nullptr, false);
}

TEST(Cli, HelpOfTheProgramNamesEveryCommand) {
    const Captured run = run_captured({"--help"});
    EXPECT_EQ(run.code, 0);
    for (const Subcommand& command : subcommands()) {
        EXPECT_NE(run.out.find("\n  " + command.name), std::string::npos) << command.name;
        EXPECT_NE(run.out.find(command.summary), std::string::npos) << command.name;
    }
    for (const auto& args : std::vector<std::vector<std::string>>{{}, {"-h"}, {"help"}}) {
        EXPECT_EQ(run_captured(args).out, run.out);
        EXPECT_EQ(run_captured(args).code, 0);
    }
}

TEST(Cli, HelpOfACommandShowsEveryFlagAndExample) {
    for (const Subcommand& command : subcommands()) {
        const Captured run = run_captured({command.name, "--help"});
        EXPECT_EQ(run.code, 0);
        EXPECT_EQ(run.err, "");
        for (const Flag& flag : command.flags) {
            EXPECT_NE(run.out.find("\n  --" + flag.name), std::string::npos) << command.name << " --" << flag.name;
        }
        ASSERT_FALSE(command.examples.empty()) << command.name;
        for (const Example& example : command.examples) {
            EXPECT_NE(run.out.find("\n  mobalab " + example.command + "\n"), std::string::npos) << example.command;
        }
        EXPECT_EQ(run_captured({"help", command.name}).out, run.out);
        std::istringstream lines(run.out);
        for (std::string line; std::getline(lines, line);) {
            EXPECT_LE(line.size(), 120U) << command.name << ": " << line;
        }
    }
}

TEST(Cli, EveryExampleIsAValidCommandLine) {
    for (const Subcommand& command : subcommands()) {
        for (const Example& example : command.examples) {
            std::vector<std::string> args = words(example.command);
            ASSERT_EQ(args.front(), command.name);
            args.erase(args.begin());
            if (std::count(args.begin(), args.end(), "--config") != 0) {
                continue;  // its file is looked for from the root of the project: the test of the main job runs it
            }
            const Arguments arguments = parse_arguments(command, args);
            if (arguments.has("points")) {
                EXPECT_FALSE(point_grid(arguments).empty()) << example.command;
            }
        }
    }
}

TEST(Cli, SeveralBareArgumentsOfACommandThatTakesThem) {
    const Subcommand command = export_command();
    const auto paths = [&](const std::vector<std::string>& args) {
        return parse_arguments(command, args).lines("results");
    };
    using Words = std::vector<std::string>;
    EXPECT_EQ(paths({"a.h5"}), Words{"a.h5"});
    EXPECT_EQ(paths({"a b,c.h5", "--out", "x", "d.h5", "--where", "k = 8", "e.h5"}),
              (Words{"a b,c.h5", "d.h5", "e.h5"}));
    EXPECT_EQ(paths({"--results", "a.h5"}), Words{"a.h5"});
    EXPECT_TRUE(paths({}).empty());
    EXPECT_NE(error_of("theory a.h5 b.h5").find("a value without a flag"), std::string::npos);
}

TEST(Cli, Version) {
    const Captured run = run_captured({"--version"});
    EXPECT_EQ(run.code, 0);
    EXPECT_EQ(run.out.find("mobalab 0."), 0U);
}

TEST(Cli, MistakesInTheCommandLine) {
    EXPECT_EQ(error_of("thery"),
              "mobalab: error: thery is not a command: must be one of theory, simulate, route, validate, measure, "
              "advise, training, "
              "bench, audit, combine, interval, table, export, info; nearest valid: theory\n");
    EXPECT_EQ(error_of("help simulat").find("mobalab: error: simulat is not a command"), 0U);
    EXPECT_EQ(error_of("theory --modle gaussian"),
              "mobalab theory: error: --modle is not a flag of this command; nearest valid: --model\n");
    EXPECT_EQ(error_of("theory --head_dim 64"),
              "mobalab theory: error: --head_dim is not a flag of this command; nearest valid: --head-dim\n");
    EXPECT_EQ(error_of("theory --qqqqqqqqq 64"),
              "mobalab theory: error: --qqqqqqqqq is not a flag of this command; --help lists them\n");
    EXPECT_EQ(error_of("theory -x"), "mobalab theory: error: -x is not a flag of this command; --help lists them\n");
    EXPECT_EQ(error_of("theory --model"), "mobalab theory: error: --model needs a value\n");
    EXPECT_EQ(error_of("theory --model --json"), "mobalab theory: error: --model needs a value\n");
    EXPECT_EQ(error_of("theory --json=5"), "mobalab theory: error: --json is a switch and takes no value\n");
    EXPECT_EQ(error_of("theory --topk 3 --topk 4"),
              "mobalab theory: error: --topk is given more than once; give it once, a list is written 64,128\n");
    EXPECT_EQ(error_of("theory --head-dim 64, 128"),
              "mobalab theory: error: 64, 128: a list has no blanks on the command line; write 64,128\n");
    EXPECT_EQ(error_of("theory 64"), "mobalab theory: error: 64: a value without a flag; write --model 64\n");
    EXPECT_EQ(error_of({"theory", "--head-dim", ""}),
              "mobalab theory: error: head-dim = (nothing): must be a whole number, like 64, 8K (8192) or 1e6\n");
}

TEST(Cli, MistakesInThePoint) {
    EXPECT_EQ(error_of("theory --block-size 0"),
              "mobalab theory: error: block-size = 0: must be at least 1; nearest valid: 1\n");
    EXPECT_EQ(error_of("theory --head-dim 1"),
              "mobalab theory: error: head-dim = 1: must be at least 2; nearest valid: 2\n");
    EXPECT_EQ(error_of("simulate --mu-signal -0.1"),
              "mobalab simulate: error: mu-signal = -0.1: must be between 0 and 1; nearest valid: 0\n");
    EXPECT_EQ(error_of("simulate --mu-signal 1.1"),
              "mobalab simulate: error: mu-signal = 1.1: must be between 0 and 1; nearest valid: 1\n");
    EXPECT_EQ(error_of("theory --candidates 0 --topk 1"),
              "mobalab theory: error: candidates = 0: must be between 1 and 1000000; nearest valid: 1\n");
    EXPECT_EQ(
        error_of("theory --cluster-size 65"),
        "mobalab theory: error: cluster-size = 65 with block-size = 64: must be at most the block size; nearest valid: "
        "64\n");
    EXPECT_EQ(
        error_of("theory --seq-len 512 --topk 9"),
        "mobalab theory: error: topk = 9 with seq-len = 512 and block-size = 64: must be at most the number of blocks, "
        "the own one included; nearest valid: 8\n");
    EXPECT_EQ(error_of("theory --model spere"),
              "mobalab theory: error: model = spere: must be one of gaussian, gaussian-fixed, sphere, vector, text; "
              "nearest valid: "
              "sphere\n");
    const std::string noise = error_of("theory --model sphere --mu-noise 0.1");
    EXPECT_EQ(noise.find("mobalab theory: error: mu_noise = 0.1: must be 0"), 0U) << noise;
    EXPECT_EQ(std::count(noise.begin(), noise.end(), '\n'), 1);
}

TEST(Cli, MistakesInTheRun) {
    EXPECT_EQ(error_of("simulate --trials 0"),
              "mobalab simulate: error: trials = 0: must be at least 1; nearest valid: 1\n");
    EXPECT_EQ(error_of("simulate --seed -1"),
              "mobalab simulate: error: seed = -1: must be at least 0; nearest valid: 0\n");
    EXPECT_EQ(error_of("simulate --threads 5000"),
              "mobalab simulate: error: threads = 5000: must be between 0 and 4096; nearest valid: 4096\n");
    EXPECT_EQ(error_of("simulate --max-seconds -1"),
              "mobalab simulate: error: max-seconds = -1: must be between 0 and 1000000000; nearest valid: 0\n");
    EXPECT_EQ(error_of("simulate --max-seconds 1e300"),
              "mobalab simulate: error: max-seconds = 1e300: must be between 0 and 1000000000; nearest valid: "
              "1000000000\n");
    EXPECT_EQ(error_of("simulate --threads 1e9"),
              "mobalab simulate: error: threads = 1e9: must be between 0 and 4096; nearest valid: 4096\n");
    EXPECT_EQ(error_of("simulate --confidence 95"),
              "mobalab simulate: error: confidence = 95: must be between 0.5 and 0.999999999999; nearest valid: 0.95 "
              "(95 %)\n");
    EXPECT_EQ(error_of("simulate --device gpu"),
              "mobalab simulate: error: device = gpu: must be one of cpu, cuda, auto; nearest valid: cpu\n");
    EXPECT_EQ(error_of("simulate --force"),
              "mobalab simulate: error: force, resume: are about a results file; name it with --out\n");
    EXPECT_EQ(
        error_of("simulate --out x.h5 --force --resume"),
        "mobalab simulate: error: force, resume: --force starts afresh and --resume goes on; give one of the two\n");
    EXPECT_EQ(error_of("theory --solve seq-len"),
              "mobalab theory: error: solve = seq-len: must be one of head-dim, block-size, topk, mu-signal\n");
    EXPECT_EQ(error_of("theory --solve topk --topk 3"),
              "mobalab theory: error: topk = 3: is what --solve topk asks for; leave it out\n");
    EXPECT_EQ(error_of("theory --solve topk --wanted-hit 1"),
              "mobalab theory: error: wanted-hit = 1: must be above 0 and below 1; nearest valid: 0.999999\n");
    EXPECT_EQ(error_of("theory --solve topk --wanted-hit nan"),
              "mobalab theory: error: wanted-hit = nan: must be above 0 and below 1; nearest valid: 1e-06\n");
    EXPECT_EQ(error_of("advise --budget-ms 0"),
              "mobalab advise: error: budget-ms = 0: must be a finite number above 0; nearest valid: 1\n");
    EXPECT_EQ(error_of("theory --wanted-hit 0.5"),
              "mobalab theory: error: wanted-hit: goes with --solve head-dim, block-size, topk or mu-signal\n");
    EXPECT_EQ(error_of({"export", "x.h5", "--out", ""}),
              "mobalab export: error: out = (nothing): must be a path, like figures\n");
    EXPECT_EQ(error_of(std::vector<std::string>{"export", ""}),
              "mobalab export: error: results = (nothing): must be a path, like results.h5\n");
    EXPECT_EQ(error_of("export").find("mobalab export: error: no results file: name one"), 0U);
}

TEST(Cli, AFileThatCannotBeWrittenIsAnErrorBeforeTheWork) {
    // So many trials never end.
    EXPECT_EQ(error_of("simulate --trials 1e15 --out /nonexistent/x.h5"),
              "mobalab simulate: error: /nonexistent/x.h5: cannot be written: No such file or directory\n");
    EXPECT_EQ(error_of("simulate --trials 1e15 --force --out /dev/null"),
              "mobalab simulate: error: /dev/null: is not a regular file; give the path of a file to write\n");
    const TemporaryFolder folder;
    EXPECT_EQ(error_of({"theory", "--force", "--out", folder / ""}).find("mobalab theory: error: "), 0U);
}

TEST(Cli, AConfigFileIsASetOfFlags) {
    const TemporaryFolder folder;
    spill(folder / "a.cfg", "# a comment\nmodel = gaussian\nhead-dim = 32,64:128:x2\njson = true\n");
    const Captured by_file = run_captured({"theory", "--config", folder / "a.cfg"});
    const Captured by_flags = run_captured(words("theory --model gaussian --head-dim 32,64:128:x2 --json"));
    EXPECT_EQ(by_file.code, 0) << by_file.err;
    EXPECT_EQ(by_file.out, by_flags.out);
    const Captured both = run_captured({"theory", "--head-dim", "16", "--config", folder / "a.cfg"});
    ASSERT_EQ(both.code, 0) << both.err;
    const json rows = json::parse(both.out);
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0]["head_dim"], 16) << "the command line wins";
    EXPECT_EQ(rows[0]["model"], "gaussian");
}

TEST(Cli, MistakesInAConfigFile) {
    const TemporaryFolder folder;
    const std::string path = folder / "a.cfg";
    const auto error_with = [&](const std::string& text) {
        spill(path, text);
        return error_of({"theory", "--config", path});
    };
    const std::string start = "mobalab theory: error: config " + path + ": ";
    EXPECT_EQ(error_with("block_size = 3\n"),
              start + "block_size is not a flag of this command; nearest valid: --block-size\n");
    EXPECT_EQ(error_with("[grid]\nmodel = gaussian\n").find(start + "grid.model is not a flag"), 0U);
    EXPECT_EQ(error_with("config = " + path + "\n"),
              start + "config belongs on the command line, not in a config file; remove the line\n");
    EXPECT_EQ(error_with("help = true\n").find(start + "help belongs on the command line"), 0U);
    EXPECT_EQ(error_with("topk = 4\ntopk = 4\n"),
              start + "topk is given more than once; give it once, a list is written 64,128\n");
    EXPECT_EQ(error_with("--topk = 4\n").find(start), 0U);
    EXPECT_EQ(error_with("topk =\n"),
              "mobalab theory: error: topk = (nothing): must be a whole number, like 64, 8K (8192) or 1e6\n");
    EXPECT_EQ(error_with(std::string("t\0o\0p\0k\0", 8)),
              "mobalab theory: error: config = " + path +
                  ": is no text file of NAME = VALUE lines (it holds zero bytes); save it as UTF-8 text\n");
    EXPECT_EQ(error_with(std::string((1 << 20) + 1, '#')),
              "mobalab theory: error: config = " + path +
                  ": is larger than the 1024 KiB such a file may have; give a text file of NAME = VALUE lines\n");
    EXPECT_EQ(error_with("model gaussian\n"), start + "the line 'model gaussian' must be NAME = VALUE\n");
    EXPECT_EQ(error_with("json = perhaps\n"), start + "json is a switch: its value is true or false\n");
    EXPECT_EQ(error_with("block-size = 0\n"),
              "mobalab theory: error: block-size = 0: must be at least 1; nearest valid: 1\n");
    EXPECT_EQ(
        error_of("theory --config /nonexistent.cfg"),
        "mobalab theory: error: config = /nonexistent.cfg: cannot be read: No such file or directory; give a text file "
        "of NAME = VALUE lines\n");
}

TEST(Cli, ConfigFilesAsEditorsLeaveThem) {
    const TemporaryFolder folder;
    const std::string wanted = run_captured(words("theory --model gaussian --head-dim 64,128 --json")).out;
    const auto read_as_wanted = [&](const std::string& text) {
        spill(folder / "a.cfg", text);
        const Captured run = run_captured({"theory", "--json", "--config", folder / "a.cfg"});
        EXPECT_EQ(run.code, 0) << run.err;
        return run.out == wanted;
    };
    EXPECT_TRUE(read_as_wanted("\xEF\xBB\xBFmodel = gaussian\nhead-dim = 64,128\n")) << "byte order mark";
    EXPECT_TRUE(read_as_wanted("model = gaussian\r\nhead-dim = 64,128\r\n")) << "lines of Windows";
    EXPECT_TRUE(read_as_wanted("model=gaussian\nhead-dim\t=\t64, 128\t# widths"));
    EXPECT_TRUE(read_as_wanted("\n  model = gaussian  \n\n  head-dim = 64 ,128\n# model = sphere\n"));
    spill(folder / "empty.cfg", "");
    EXPECT_EQ(run_captured({"theory", "--config", folder / "empty.cfg"}).out, run_captured({"theory"}).out);
    spill(folder / "mark.cfg", "\xEF\xBB\xBF");
    EXPECT_EQ(run_captured({"theory", "--config", folder / "mark.cfg"}).out, run_captured({"theory"}).out);
}

TEST(Cli, WhatIsNoRegularFileIsRefusedAtOnce) {
    const TemporaryFolder folder;
    const std::string pipe = folder / "pipe";
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);  // whoever opens it to read or write waits for ever
    std::filesystem::create_directory(folder / "folder");
    std::filesystem::create_symlink("loop", folder / "loop");
    const std::string config = "mobalab theory: error: config = ";
    EXPECT_EQ(error_of({"theory", "--config", pipe}),
              config + pipe + ": is a pipe; give the path of a regular file; give a text file of NAME = VALUE lines\n");
    EXPECT_EQ(error_of("theory --config /dev/zero").find(config + "/dev/zero: is a device; give the path"), 0U);
    EXPECT_EQ(error_of({"theory", "--config", folder / "folder"}).find(config + (folder / "folder") + ": is a folder"),
              0U);
    EXPECT_EQ(error_of({"theory", "--config", folder / "loop"}).find(config + (folder / "loop") + ": cannot be read"),
              0U);
    EXPECT_EQ(error_of({"theory", "--config", ""}).find(config + ": cannot be read"), 0U);
    for (const std::string& path : {pipe, folder / "folder", std::string("/dev/null"), std::string("/dev/stdout")}) {
        for (const char* force : {"--force", "--json"}) {
            EXPECT_EQ(error_of({"theory", force, "--out", path}),
                      "mobalab theory: error: " + path + ": is not a regular file; give the path of a file to write\n");
        }
    }
    EXPECT_EQ(error_of({"theory", "--out", folder / "loop"})
                  .find("mobalab theory: error: " + (folder / "loop") + ": is a symbolic link that leads nowhere"),
              0U);
    EXPECT_EQ(error_of({"theory", "--out", ""}),
              "mobalab theory: error: out = (nothing): must be the path of a file to write, like results.h5\n");
    // What lies where the lock, the new file and the journal go.
    for (const std::string beside : {".lock", ".journal"}) {
        ASSERT_EQ(::mkfifo((folder / ("a.h5" + beside)).c_str(), 0600), 0);
        EXPECT_EQ(error_of({"simulate", "--trials", "10", "--resume", "--out", folder / "a.h5"}),
                  "mobalab simulate: error: " + (folder / ("a.h5" + beside)) +
                      ": is a pipe; give the path of a regular file\n");
        std::filesystem::remove(folder / ("a.h5" + beside));
    }
    ASSERT_EQ(::mkfifo((folder / "a.h5.new").c_str(), 0600), 0);
    EXPECT_EQ(run_captured({"theory", "--out", folder / "a.h5"}).code, 0);
    EXPECT_EQ(folder.listing(), "a.h5 folder loop pipe");
}

TEST(Cli, ASymbolicLinkIsWrittenThrough) {
    const TemporaryFolder folder;
    std::filesystem::create_directory(folder / "disk");
    const std::string file = folder / "disk/real.h5";
    const std::string link = folder / "link.h5";
    ASSERT_EQ(run_captured({"theory", "--topk", "3", "--out", file}).code, 0);
    std::filesystem::permissions(file, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    std::filesystem::create_symlink("disk/real.h5", link);
    EXPECT_EQ(error_of({"theory", "--out", link}).find("exists and is never overwritten") != std::string::npos, true);
    ASSERT_EQ(run_captured({"theory", "--topk", "4", "--force", "--out", link}).code, 0);
    EXPECT_TRUE(std::filesystem::is_symlink(link));
    EXPECT_EQ(read_results(file).table("theory").integers("topk"), (std::vector<std::int64_t>{4}));
    EXPECT_EQ(std::filesystem::status(file).permissions(),
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write)
        << "a private file stays private";
    // Both names share one lock and one journal.
    const FileLock lock(file);
    EXPECT_EQ(
        error_of({"theory", "--force", "--out", link}),
        "mobalab theory: error: " + file + ": another mobalab is writing it; wait for it or give another --out\n");
}

TEST(Cli, NamesWithBytesThatAreNoUtf8) {
    const TemporaryFolder folder;
    const std::string config = folder / "caf\xe9.cfg";
    const std::string file = folder / "it's \xff.h5";
    spill(config, "topk = 4\n");
    ASSERT_EQ(run_captured({"simulate", "--trials", "10", "--config", config, "--out", file}).code, 0);
    EXPECT_EQ(read_results(file).command, "mobalab simulate --trials 10 --config $'" + (folder / "caf\\xe9.cfg") +
                                              "' --out $'" + (folder / "it\\'s \\xff.h5") + "'");
    EXPECT_EQ(error_of({"theory", "--topk", "\xff"}),
              "mobalab theory: error: topk = \xff: must be a whole number, like 64, 8K (8192) or 1e6\n");
    EXPECT_EQ(run_captured({"simulate", "--trials", "10", "--config", config, "--out", file, "--resume"}).code, 0);
    spill(folder / "b.cfg", "topk = 4 # caf\xe9\n");
    EXPECT_EQ(run_captured({"theory", "--config", folder / "b.cfg"}).code, 0);
    // A name in UTF-8 stands as it is.
    ASSERT_EQ(run_captured({"theory", "--out", folder / "caf\u00e9.h5"}).code, 0);
    EXPECT_NE(read_results(folder / "caf\u00e9.h5").command.find("caf\u00e9.h5'"), std::string::npos);
}

TEST(Cli, TheoryPrintsTheAnalysisRoomsNumbers) {
    const json rows = rows_of("theory --model gaussian --head-dim 64,128 --candidates 100 --topk 4 --json");
    ASSERT_EQ(rows.size(), 2U);
    analysis::RoutingPoint point;
    point.model = analysis::Model::gaussian;
    point.head_dim = 128;
    point.candidates = 100;
    point.topk = 4;
    const analysis::HitProbability exact = analysis::exact_hit_probability(point);
    EXPECT_EQ(rows[1]["hit_probability"].get<double>(), exact.hit());
    EXPECT_EQ(rows[1]["miss_probability"].get<double>(), exact.miss());
    EXPECT_EQ(rows[1]["log_miss_probability"].get<double>(), exact.log_miss);
    EXPECT_EQ(rows[1]["seq_len"], 0);
    EXPECT_EQ(rows[1]["candidates"], 100);
    for (const char* key : {"snr", "pairwise_miss", "model", "block_size", "mu_signal", "cluster_size"}) {
        EXPECT_TRUE(rows[1].contains(key)) << key;
    }
}

TEST(Cli, TheoryTableAndJsonSayTheSame) {
    const Captured table = run_captured(words("theory --model gaussian --block-size 16:64:x2"));
    EXPECT_EQ(table.code, 0);
    EXPECT_EQ(table.err, "");
    const json rows = rows_of("theory --model gaussian --block-size 16:64:x2 --json");
    ASSERT_EQ(rows.size(), 3U);
    for (const json& row : rows) {
        EXPECT_NE(table.out.find(fmt::format("{:.6g}", row["hit_probability"].get<double>())), std::string::npos);
    }
}

TEST(Cli, SolveFindsTheEdge) {
    const std::string start = "theory --model gaussian --candidates 100 --json --topk 4 ";
    const json solved = rows_of(start + "--solve head-dim --wanted-hit 0.9");
    ASSERT_EQ(solved.size(), 1U);
    EXPECT_EQ(solved[0]["reached"], "yes");
    const int head_dim = solved[0]["head_dim"];
    EXPECT_GE(rows_of(start + "--head-dim " + std::to_string(head_dim))[0]["hit_probability"].get<double>(), 0.9);
    EXPECT_LT(rows_of(start + "--head-dim " + std::to_string(head_dim - 1))[0]["hit_probability"].get<double>(), 0.9);
    EXPECT_GE(solved[0]["hit_probability"].get<double>(), 0.9) << "the row is that of the answer";
}

TEST(Cli, SolveLooksAtOtherFlagsOnly) {
    // The default topk (8) and block size (64) would be impossible here; they are what is asked for.
    EXPECT_EQ(rows_of("theory --model gaussian --candidates 3 --solve topk --wanted-hit 0.999999 --json")[0]["topk"],
              4);
    const json block = rows_of(
        "theory --model gaussian --seq-len 64 --cluster-size 4 --mu-cluster 0.8 --topk 2 --head-dim "
        "4096 --solve block-size --wanted-hit 0.9 --json");
    const int size = block[0]["block_size"];
    EXPECT_GE(size, 4);
    EXPECT_EQ(block[0]["candidates"], (64 + size - 1) / size - 1);
}

TEST(Cli, SolvePrintsEveryIntervalThatReaches) {
    const std::string line =
        "theory --solve head-dim --wanted-hit 0.94 --block-size 2 --candidates 20 --topk 18 --mu-signal 0.02";
    const json row = rows_of(line + " --json")[0];
    EXPECT_EQ(row["head_dim"], 2);
    EXPECT_EQ(row["reaching"], "2, 80..65536");
    EXPECT_EQ(row["searched"], "2..65536");
    EXPECT_FALSE(row.contains("trivial_from"));
    const Captured shown = run_captured(words(line));
    EXPECT_NE(shown.out.find("d that reach"), std::string::npos) << shown.out;
    EXPECT_NE(shown.out.find("searched d 2..65536"), std::string::npos) << shown.out;
}

TEST(Cli, SolveOfABlockSizeTakesNeedlesAndNamesTrivialSizes) {
    const json row = rows_of(
        "theory --solve block-size --needles 2 --seq-len 8K --cluster-size 4 --mu-signal 0.6 --mu-cluster 0.2 "
        "--wanted-hit 0.5 --json")[0];
    EXPECT_EQ(row["block_size"], 1023);
    EXPECT_EQ(row["reaching"], "4..19, 373..4095");
    EXPECT_EQ(row["searched"], "4..4095");
    EXPECT_EQ(row["trivial_from"], 1024);
    for (const std::string quantity : {"head-dim", "block-size", "topk", "mu-signal"}) {
        for (const std::string length : {"--seq-len 2K", "--candidates 60"}) {
            const Captured run = run_captured(words("theory --model gaussian-fixed --needles 3 --goal each,any,all " +
                                                    length + " --wanted-hit 0.2 --json --solve " + quantity));
            EXPECT_NE(run.code, exit_error) << run.err;
            for (const json& answer : json::parse(run.out)) {
                const bool reached = answer["reached"] == "yes";
                EXPECT_EQ(reached, answer["hit_probability"].get<double>() >= 0.2) << answer;
            }
        }
    }
    // More blocks of one key than a point may have: the search begins where they fit.
    EXPECT_EQ(
        rows_of("theory --model gaussian --solve block-size --seq-len 3M --json --wanted-hit 0.01")[0]["searched"],
        "4..65536");
}

TEST(Cli, SolveWithoutAnAnswerSaysNo) {
    const Captured run = run_captured(
        words("theory --model gaussian --candidates 1000 --topk 2 --mu-signal 0 --solve head-dim --wanted-hit 0.99"));
    EXPECT_EQ(run.code, 1);
    EXPECT_NE(run.out.find(" no "), std::string::npos) << run.out;
    EXPECT_NE(run.err.find("no value of head-dim reaches"), std::string::npos) << run.err;
}

TEST(Cli, SimulateCountsAndBrackets) {
    const std::string line = "simulate --model gaussian --head-dim 32,128 --trials 20000 --seed 7 --json";
    const json rows = rows_of(line);
    ASSERT_EQ(rows.size(), 2U);
    for (const json& row : rows) {
        EXPECT_EQ(row["trials"], 20000);
        EXPECT_EQ(row["seed"], 7);
        EXPECT_EQ(row["stop_reason"], "trials");
        const double miss = row["misses"].get<double>() / 20000.0;
        EXPECT_EQ(row["miss"].get<double>(), miss);
        EXPECT_LT(row["low"].get<double>(), miss);
        EXPECT_GT(row["high"].get<double>(), miss);
    }
    EXPECT_EQ(rows_of(line + " --threads 3"), rows) << "the number of threads changes nothing";
    EXPECT_NE(rows_of("simulate --model gaussian --head-dim 32,128 --trials 20000 --seed 8 --json"), rows);
    const double wide = rows[0]["high"].get<double>() - rows[0]["low"].get<double>();
    const json narrow = rows_of(line + " --confidence 0.5");
    EXPECT_LT(narrow[0]["high"].get<double>() - narrow[0]["low"].get<double>(), wide);
}

TEST(Cli, SimulateStopsByEachRule) {
    EXPECT_EQ(rows_of("simulate --model gaussian --max-misses 500 --trials 1e9 --json")[0]["stop_reason"], "misses");
    EXPECT_EQ(rows_of("simulate --model gaussian --target-relative-error 0.05 --trials 1e9 --json")[0]["stop_reason"],
              "relative-error");
    EXPECT_EQ(rows_of("simulate --model gaussian --max-seconds 0.05 --trials 1e15 --json")[0]["stop_reason"],
              "seconds");
}

TEST(Cli, SimulateByEveryMethod) {
    const std::string line = "simulate --block-size 8 --candidates 40 --topk 5 --json --trials 20000";
    for (const std::string method : {"vector", "affinity", "block", "threshold", "conditional", "exact"}) {
        const json row = rows_of(line + " --method " + method)[0];
        const bool counts = method != "conditional" && method != "exact";
        EXPECT_EQ(row["method"], method);
        EXPECT_EQ(row["trials"], method == "exact" ? 0 : 20000);
        EXPECT_EQ(row["misses"].is_number(), counts) << method;
        EXPECT_EQ(row["stop_reason"], method == "exact" ? "exact" : "trials");
        const double exact = row["miss_probability"];
        // The 95 % intervals of five fixed runs; 0.03 is ten standard errors.
        EXPECT_NEAR(row["miss"].get<double>(), exact, method == "exact" ? 1e-12 : 0.03) << method;
        EXPECT_LT(row["low"].get<double>(), row["high"].get<double>());
        EXPECT_EQ(rows_of(line + " --threads 1 --method " + method)[0], row) << "the same numbers again";
    }
}

TEST(Cli, SimulateChoosesTheMethod) {
    EXPECT_EQ(rows_of("simulate --trials 100 --json")[0]["method"], "affinity");
    EXPECT_EQ(rows_of("simulate --model gaussian --trials 100 --json")[0]["method"], "block");
    const json rare = rows_of("simulate --head-dim 2048 --block-size 16 --target-relative-error 0.01 --json")[0];
    EXPECT_EQ(rare["method"], "conditional");
    EXPECT_EQ(rare["stop_reason"], "relative-error");
    EXPECT_LT(rare["miss_probability"].get<double>(), 1e-11);
    EXPECT_LT(std::abs(std::log(rare["miss"].get<double>() / rare["miss_probability"].get<double>())), 0.06);
    const json few =
        rows_of("simulate --head-dim 2048 --block-size 16 --target-relative-error 0.01 --trials 9 --json")[0];
    EXPECT_EQ(few["method"], "exact");
    EXPECT_NE(few["method_reason"].get<std::string>().find("no sampler"), std::string::npos);
}

TEST(Cli, SimulateRefusesMethodsThatCannotAnswer) {
    EXPECT_EQ(
        error_of("simulate --model gaussian --method vector"),
        "mobalab simulate: error: method = vector: model gaussian has block scores only, no keys; use method block "
        "or threshold or conditional or exact\n");
    EXPECT_EQ(
        error_of("simulate --method conditional --max-misses 5"),
        "mobalab simulate: error: max-misses: method conditional counts no misses; use --target-relative-error, or "
        "--method threshold\n");
}

TEST(Cli, SimulateTakesMethodsThatCanDoThePoint) {
    const auto method = [](const std::string& flags) {
        return rows_of("simulate --candidates 20 --block-size 8 --trials 200 --json " + flags)[0]["method"];
    };
    EXPECT_EQ(method("--needles 3"), "affinity");
    EXPECT_EQ(method("--needles 3 --model gaussian"), "block");
    EXPECT_EQ(method("--key-correlation 0.1"), "affinity");
    EXPECT_EQ(method("--key-correlation 0.1 --target-relative-error 0.1"), "affinity");
    EXPECT_EQ(method("--key-conv 3"), "vector");
    EXPECT_EQ(method("--key-conv 3 --target-relative-error 0.1"), "vector");
    EXPECT_EQ(method("--key-conv 3 --key-conv-activation none"), "affinity");
    EXPECT_EQ(error_of("simulate --key-conv 3 --method affinity"),
              "mobalab simulate: error: method = affinity: key_conv = 3 with SiLU acts on the coordinates of keys, "
              "which affinities do not know; use method vector\n");
    EXPECT_EQ(error_of("simulate --needles 3 --method threshold"),
              "mobalab simulate: error: method = threshold: needles = 3: it has one signal score; use method vector or "
              "affinity or block or exact\n");
    EXPECT_EQ(error_of("theory --key-correlation 0.1"),
              "mobalab theory: error: key_correlation = 0.1, key_conv = 0: model sphere has no exact probability with "
              "keys that are not independent; nearest valid values are 0; or use command simulate, or model "
              "gaussian-fixed, exact for correlated normal keys\n");
}

TEST(Cli, SimulationOfNeedlesAgreesWithTheirTheory) {
    const json rows = rows_of(
        "simulate --needles 3 --goal each,any,all --head-dim 32 --block-size 8 --candidates 20 "
        "--trials 1e5 --confidence 0.999999999 --json");
    ASSERT_EQ(rows.size(), 3U);
    for (const json& row : rows) {
        EXPECT_LT(row["low"].get<double>(), row["miss_probability"].get<double>()) << row;
        EXPECT_GT(row["high"].get<double>(), row["miss_probability"].get<double>()) << row;
    }
    EXPECT_GT(rows[0]["low"].get<double>(), rows[1]["high"].get<double>()) << "the goals differ";
    EXPECT_GT(rows[2]["low"].get<double>(), rows[0]["high"].get<double>());
}

TEST(Cli, AFinishedConditionalRunIsReadBack) {
    const TemporaryFolder folder;
    const std::string line =
        "simulate --head-dim 512,1024 --block-size 16 --target-relative-error 0.01 --json --out " + (folder / "c.h5");
    const json rows = rows_of(line);
    EXPECT_EQ(rows_of(line + " --resume"), rows);
}

TEST(Cli, TheSeedOfATableIsPrinted) {
    const Captured run = run_captured(words("simulate --model gaussian --trials 1000"));
    EXPECT_EQ(run.code, 0);
    EXPECT_EQ(run.out.find("seed 1, "), 0U) << run.out;
}

TEST(Cli, OutputOfTheoryIsNeverOverwrittenUnasked) {
    const TemporaryFolder folder;
    const std::string path = folder / "t.h5";
    ASSERT_EQ(run_captured({"theory", "--model", "gaussian", "--out", path}).code, 0);
    const Results first = read_results(path);
    EXPECT_EQ(first.subcommand, "theory");
    EXPECT_EQ(first.command, "mobalab theory --model gaussian --out " + path);
    EXPECT_NE(first.settings.find("head-dim=64"), std::string::npos);
    EXPECT_EQ(first.settings.find(path), std::string::npos);
    EXPECT_FALSE(first.seed.has_value());
    EXPECT_EQ(error_of({"theory", "--out", path}),
              "mobalab theory: error: " + path +
                  ": exists and is never overwritten; add --force to replace it or give another --out\n");
    EXPECT_EQ(read_results(path), first);
    ASSERT_EQ(run_captured({"theory", "--model", "gaussian", "--head-dim", "32", "--out", path, "--force"}).code, 0);
    EXPECT_EQ(read_results(path).table("theory").integers("head_dim"), std::vector<std::int64_t>{32});
    EXPECT_EQ(folder.listing(), "t.h5");
}

TEST(Cli, CommandLineIsQuotedForAShell) {
    const TemporaryFolder folder;
    const std::string path = folder / "it's here.h5";
    ASSERT_EQ(run_captured({"theory", "--model", "gaussian", "--force", "--out", path}).code, 0);
    EXPECT_EQ(read_results(path).command,
              "mobalab theory --model gaussian --out '" + (folder / "it") + "'\\''s here.h5'");
}

TEST(Cli, InfoSaysWhatThisIs) {
    const Captured run = run_captured({"info", "--json"});
    ASSERT_EQ(run.code, 0);
    const json info = json::parse(run.out);
    EXPECT_EQ(info["version"].get<std::string>().find("0."), 0U);
    EXPECT_FALSE(info["git_commit"].get<std::string>().empty());
    EXPECT_GE(info["threads"].get<int>(), 1);
    EXPECT_TRUE(info["cuda"]["devices"].is_array());
    EXPECT_EQ(info["cuda"]["devices"].empty(), !info["cuda"]["trouble"].get<std::string>().empty());
    EXPECT_NE(run_captured({"info"}).out.find(info["git_commit"].get<std::string>()), std::string::npos);
}

}  // namespace
}  // namespace mobalab::experiments
