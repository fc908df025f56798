// The program under mpirun: the bytes of one process, whatever the number of ranks and whichever of them is killed.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>

#include "experiments/results/results_file.h"
#include "tests/experiments/program.h"
#include "tests/experiments/results/small_disk.h"

namespace mobalab::experiments {
namespace {

using Seconds = std::chrono::duration<double>;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// Sanitized programs take seconds to start under mpirun.
constexpr int kills = 1;
const std::vector<int> rank_counts = {3};
const std::string probes = "--head-dim 16,32 --block-size 16 --seq-len 256 --topk 4 --probes 1024 --trials 2000 ";
#else
constexpr int kills = 10;
const std::vector<int> rank_counts = {2, 4};
const std::string probes = "--head-dim 32,64 --block-size 16,32 --seq-len 2K --topk 4,8 --probes 8192 --trials 2e4 ";
#endif
const std::string validation = "validate --cluster-size 1,3 --mu-signal 0.8 --mu-cluster 0.2 " + probes;

// Sixteen points, dealt whole unless they are long, and a long one, dealt in chunks.
const std::string sweep = "simulate --model gaussian,gaussian-fixed --head-dim 32:256:+32 --candidates 150 ";
const std::string long_point = "simulate --model gaussian --candidates 200 ";

/// Ranks of one host need no network, and OpenMPI 5 complains where it finds none.
std::vector<std::string> on_ranks(int ranks, const std::vector<std::string>& program) {
    std::vector<std::string> args = words("--oversubscribe --allow-run-as-root --bind-to none --mca btl ^tcp -n");
    args.insert(args.begin(), MOBALAB_MPIRUN);
    args.push_back(std::to_string(ranks));
    args.insert(args.end(), program.begin(), program.end());
    return args;
}

std::vector<std::string> on_ranks(int ranks, const std::string& line) {
    return on_ranks(ranks, mobalab_command(line));
}

/// OpenMPI 5's mpirun ends at once after Ctrl-C, and what its ranks say from then on reaches nobody.
bool mpirun_passes_last_words_on(const std::string& log) {
    const std::string script =
        "trap 'echo last words >&2; exit 1' INT TERM; echo ready >&2; while :; do sleep 0.1; done";
    const Program program(on_ranks(1, {"sh", "-c", script}), log);
    EXPECT_TRUE(wait_until([&] { return slurp(log).find("ready") != std::string::npos; }));
    program.send(SIGINT);
    EXPECT_NE(program.wait(), 0);
    const bool passed = slurp(log).find("last words") != std::string::npos;
    std::printf("mpirun passes last words on: %s\n", passed ? "yes" : "no");
    return passed;
}

std::ptrdiff_t errors_in(const std::string& text) {
    std::ptrdiff_t errors = 0;
    for (std::size_t at = text.find("mobalab"); at != std::string::npos; at = text.find("mobalab", at + 1)) {
        errors += text.find(": error: ", at) < text.find('\n', at) ? 1 : 0;
    }
    return errors;
}

class Ranks : public testing::Test {
protected:
    Ranks() {
        ::setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
        const auto seed = std::random_device()();
        std::printf("seed %u\n", seed);
        random_.seed(seed);
        static const std::int64_t sweep_trials = trials_that_cost(0.6, sweep, log());
        static const std::int64_t point_trials = trials_that_cost(1.0, long_point, log());
        sweep_ = fmt::format("{}--trials {} ", sweep, sweep_trials);
        long_point_ = fmt::format("{}--trials {} --max-misses {} ", long_point, point_trials, point_trials * 3 / 4);
    }
    ~Ranks() override { ::unsetenv("SOURCE_DATE_EPOCH"); }

    std::string log() const { return folder_ / "log"; }
    std::string out() const { return "--out " + (folder_ / "a.h5"); }

    /// One rank: the plain program.
    int run(int ranks, const std::string& line) {
        return Program(ranks == 1 ? mobalab_command(line) : on_ranks(ranks, line), log()).wait();
    }

    std::string take_file() {
        const std::string bytes = slurp(folder_ / "a.h5");
        std::filesystem::remove(folder_ / "a.h5");
        return bytes;
    }

    /// Kills one rank of a run a moment after it has begun; false when the run was over before.
    bool kill_one(int ranks, const std::string& line, std::size_t victim, double moment) {
        const Program program(on_ranks(ranks, line), log());
        // A journal: every rank is past MPI_Init, in which a kill can leave OpenMPI's mpirun itself in a deadlock.
        EXPECT_TRUE(wait_until([&] {
            return std::filesystem::exists(folder_ / "a.h5.journal") || std::filesystem::exists(folder_ / "a.h5");
        }));
        std::this_thread::sleep_for(Seconds(moment));
        const std::vector<pid_t> processes = program.children("mobalab");
        if (processes.size() > victim) {
            ::kill(processes[victim], SIGKILL);
        }
        EXPECT_TRUE(wait_until([&] { return std::all_of(processes.begin(), processes.end(), has_ended); }))
            << "a rank hangs";
        return program.wait() != 0;
    }

    TemporaryFolder folder_;
    std::string sweep_;
    std::string long_point_;
    std::mt19937 random_;
};

TEST_F(Ranks, TheFileIsThatOfOneProcess) {
    for (const std::string& line : {sweep_, long_point_, validation}) {
        ASSERT_EQ(run(1, line + out()), 0) << slurp(log());
        const std::string expected = take_file();
        for (const int ranks : rank_counts) {
            ASSERT_EQ(run(ranks, line + out()), 0) << slurp(log());
            EXPECT_EQ(errors_in(slurp(log())), 0) << slurp(log());
            EXPECT_EQ(take_file(), expected) << line << "on " << ranks << " ranks";
        }
    }
}

TEST_F(Ranks, AFinishedFileGoesOnOnAnyNumberOfRanks) {
    for (const std::string& line : {sweep, long_point}) {
        ASSERT_EQ(run(1, line + "--trials 60000 " + out()), 0) << slurp(log());
        const std::string expected = take_file();
        ASSERT_EQ(run(2, line + "--trials 12345 " + out()), 0) << slurp(log());
        ASSERT_EQ(run(4, line + "--trials 60000 --resume " + out()), 0) << slurp(log());
        EXPECT_EQ(take_file(), expected) << line;
    }
}

TEST_F(Ranks, AKilledRankEndsTheRunAndAnyNumberOfRanksGoesOn) {
    for (const std::string& line : {sweep_, long_point_}) {
        ASSERT_EQ(run(1, line + out()), 0) << slurp(log());
        const std::string expected = take_file();
        int killed = 0;
        for (int attempt = 0; killed < (kills + 1) / 2 && attempt < 4 * kills; ++attempt) {
            const int ranks = 2 + static_cast<int>(random_() % 3);
            const std::size_t victim = random_() % static_cast<std::size_t>(ranks);
            const double moment = std::uniform_real_distribution<double>(0.0, 0.6)(random_);
            if (!kill_one(ranks, line + out() + " --resume", victim, moment)) {
                ASSERT_EQ(take_file(), expected);
                continue;
            }
            ++killed;
            const std::string text = slurp(log());
            if (victim != 0) {
                EXPECT_EQ(errors_in(text), text.find(": error: ") == std::string::npos ? 0 : 1) << text;
            }
            const int others = 1 + static_cast<int>(random_() % 4);
            ASSERT_EQ(run(others, line + out() + " --resume"), 0) << slurp(log());
            ASSERT_EQ(take_file(), expected)
                << ranks << " ranks, " << victim << " killed after " << moment << " s, continued by " << others;
            ASSERT_FALSE(std::filesystem::exists(folder_ / "a.h5.journal"));
        }
        EXPECT_EQ(killed, (kills + 1) / 2);
    }
}

TEST_F(Ranks, TheErrorNamesTheKilledRankAndSaysHowToGoOn) {
    const Program program(on_ranks(3, "simulate --model gaussian --trials 1e15 " + out()), log());
    ASSERT_TRUE(wait_until([&] { return slurp(folder_ / "a.h5.journal").find("chunks") != std::string::npos; }));
    const pid_t victim = program.children("mobalab").at(2);
    ::kill(victim, SIGKILL);
    EXPECT_NE(program.wait(), 0);
    const std::string text = slurp(log());
    EXPECT_NE(text.find("mobalab simulate: error: rank 2 (process " + std::to_string(victim)), std::string::npos)
        << text;
    EXPECT_NE(text.find("has ended: stopped in point 1 of 1; the same command with --resume goes on from here\n"),
              std::string::npos)
        << text;
    EXPECT_EQ(errors_in(text), 1) << text;
}

TEST_F(Ranks, CtrlCStopsAllOfThem) {
    const Program program(on_ranks(3, "simulate --model gaussian --trials 1e15 " + out()), log());
    ASSERT_TRUE(wait_until([&] { return slurp(folder_ / "a.h5.journal").find("chunks") != std::string::npos; }));
    const std::vector<pid_t> processes = program.children("mobalab");
    program.send(SIGINT);
    EXPECT_NE(program.wait(), 0);
    if (mpirun_passes_last_words_on(folder_ / "words.log")) {
        EXPECT_NE(slurp(log()).find("mobalab simulate: error: interrupted"), std::string::npos) << slurp(log());
        EXPECT_NE(slurp(log()).find("; the same command with --resume goes on from here\n"), std::string::npos);
    }
    for (const pid_t process : processes) {
        EXPECT_TRUE(wait_until([&] { return has_ended(process); })) << "a rank is left";
    }
    EXPECT_FALSE(std::filesystem::exists(folder_ / "a.h5.lock"));
}

TEST_F(Ranks, AMistakeIsReportedOnce) {
    EXPECT_EQ(run(4, "simulate --head-dim 1"), 2);
    const std::string text = slurp(log());
    EXPECT_EQ(text.find("mobalab simulate: error: head-dim = 1: must be at least 2; nearest valid: 2\n"), 0U) << text;
    EXPECT_EQ(errors_in(text), 1) << text;
}

TEST_F(Ranks, RanksThatWereAskedForSomethingElseAreRefused) {
    std::vector<std::string> program = {"sh", "-c", "exec \"$@\" --seed $OMPI_COMM_WORLD_RANK", "sh"};
    const std::vector<std::string> same = mobalab_command("simulate --model gaussian --trials 1000");
    program.insert(program.end(), same.begin(), same.end());
    EXPECT_EQ(Program(on_ranks(2, program), log()).wait(), 2);
    const std::string text = slurp(log());
    EXPECT_NE(text.find("): was asked for something else (simulate "), std::string::npos) << text;
    EXPECT_EQ(errors_in(text), 1) << text;
}

TEST_F(Ranks, CommandsThatAreNotDealtRunOnce) {
    ASSERT_EQ(run(3, "theory --model gaussian " + out()), 0) << slurp(log());
    const std::string bytes = take_file();
    ASSERT_EQ(run(1, "theory --model gaussian " + out()), 0);
    EXPECT_EQ(take_file(), bytes);
}

TEST_F(Ranks, AFullDiskEndsAllAndLosesNothing) {
    std::filesystem::create_directory(folder_ / "disk");
    const SmallDisk disk(folder_ / "disk", "1m");
    if (!disk.mounted()) {
        GTEST_SKIP() << "no file system can be mounted here";
    }
    const std::string line = long_point_ + "--resume --out " + (folder_ / "disk/a.h5");
    ASSERT_EQ(run(1, line), 0) << slurp(log());
    const std::string expected = slurp(folder_ / "disk/a.h5");
    std::filesystem::remove(folder_ / "disk/a.h5");
    disk.fill(8192);
    EXPECT_EQ(run(3, line), 2);
    EXPECT_NE(slurp(log()).find("No space left on device"), std::string::npos) << slurp(log());
    EXPECT_EQ(errors_in(slurp(log())), 1) << slurp(log());
    std::filesystem::remove(disk.filler());
    ASSERT_EQ(run(2, line), 0) << slurp(log());
    EXPECT_EQ(slurp(folder_ / "disk/a.h5"), expected);
}

TEST_F(Ranks, WithoutMpirunNoMpiIsStarted) {
    ::setenv("OMPI_MCA_pml", "none-of-them", 1);  // MPI_Init would fail
    EXPECT_EQ(run(1, "simulate --model gaussian --trials 1000"), 0) << slurp(log());
    EXPECT_NE(run(2, "simulate --model gaussian --trials 1000"), 0) << "or this test means nothing";
    ::unsetenv("OMPI_MCA_pml");
}

}  // namespace
}  // namespace mobalab::experiments
