// Kills the program itself, again and again, and compares what a continued run leaves with what an uninterrupted one
// does.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "experiments/results/atomic_file.h"
#include "experiments/results/journal.h"
#include "experiments/results/results_file.h"
#include "experiments/simulation/simulation_record.h"
#include "tests/experiments/program.h"
#include "tests/experiments/results/small_disk.h"

namespace mobalab::experiments {
namespace {

/// Most of a second of one core at two points, one of them stopped by its misses; sanitizers are some 20 times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
const std::string stop = "--trials 6e4 --max-misses 4e4 ";
#else
const std::string stop = "--trials 12e5 --max-misses 8e5 ";
#endif
const std::string work = "simulate --model gaussian --head-dim 64,256 --candidates 200 " + stop;

/// One thread, so that a machine of many cores does not finish it before it can be killed.
const std::string slow_work = work + "--threads 1 ";

class Resume : public testing::Test {
protected:
    Resume() { ::setenv("SOURCE_DATE_EPOCH", "1700000000", 1); }
    ~Resume() override { ::unsetenv("SOURCE_DATE_EPOCH"); }

    int run(const std::string& line) { return Program(mobalab_command(line), log()).wait(); }
    std::string log() const { return folder_ / "log"; }
    std::string out(const std::string& name) const { return "--out " + (folder_ / name); }

    bool has_chunks(const std::string& name) const {
        return slurp(folder_ / (name + ".journal")).find("chunks") != std::string::npos;
    }

    /// Runs `line` to the file `name` and sends it the signal once its journal holds counts. This process may be kept
    /// waiting until the run is over: then another run gets the signal. Returns how the run ended.
    int signalled_run(const std::string& line, const std::string& name, int signal) {
        for (int attempt = 0; attempt < 20; ++attempt) {
            const Program program(mobalab_command(line + out(name)), log());
            const bool began = wait_until([&] { return has_chunks(name) || file_exists(folder_ / name); });
            program.send(signal);
            const int code = program.wait();
            if (!began || code != 0) {
                return code;
            }
            std::filesystem::remove(folder_ / name);
        }
        return 0;
    }

    /// Leaves an interrupted run's journal at `name`.
    void interrupt(const std::string& name) {
        ASSERT_EQ(signalled_run(slow_work, name, SIGKILL), -SIGKILL) << slurp(log());
        ASSERT_TRUE(has_chunks(name));
    }

    TemporaryFolder folder_;
};

TEST_F(Resume, KilledAtRandomMomentsItEndsWithTheSameBytes) {
    const auto seed = std::random_device()();
    std::printf("seed %u\n", seed);
    std::mt19937 random(seed);
    const double before = seconds_of_programs();
    // The path is part of the recorded command: both runs write the same one.
    ASSERT_EQ(run(slow_work + out("a.h5")), 0) << slurp(log());
    const double whole = seconds_of_programs() - before;
    std::filesystem::rename(folder_ / "a.h5", folder_ / "uninterrupted.h5");

    int kills = 0;
    for (int attempt = 0; kills < 8 && attempt < 40; ++attempt) {
        const Program program(mobalab_command(slow_work + out("a.h5") + " --resume"), log());
        std::this_thread::sleep_for(
            std::chrono::duration<double>(std::uniform_real_distribution<double>(0.0, 0.15 * whole)(random)));
        program.send(SIGKILL);
        if (program.wait() == -SIGKILL) {
            ++kills;
            EXPECT_FALSE(std::filesystem::exists(folder_ / "a.h5")) << "a file before the run was over";
        } else {  // it got to the end: the next begins anew
            EXPECT_EQ(slurp(folder_ / "a.h5"), slurp(folder_ / "uninterrupted.h5"));
            std::filesystem::remove(folder_ / "a.h5");
        }
    }
    EXPECT_EQ(kills, 8);
    ASSERT_EQ(run(slow_work + out("a.h5") + " --resume"), 0) << slurp(log());
    EXPECT_EQ(slurp(folder_ / "a.h5"), slurp(folder_ / "uninterrupted.h5"));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "a.h5.journal"));
}

TEST_F(Resume, TheFileDoesNotDependOnTheThreads) {
    std::vector<Results> all;
    for (const char* threads : {"1", "2", "7"}) {
        const std::string name = std::string("t") + threads + ".h5";
        ASSERT_EQ(run(work + out(name) + " --threads " + threads), 0) << slurp(log());
        all.push_back(read_results(folder_ / name));
        all.back().command = all.back().settings = "";  // these name the threads and the path
    }
    EXPECT_EQ(encode_results(all[0]), encode_results(all[1]));
    EXPECT_EQ(encode_results(all[0]), encode_results(all[2]));
    EXPECT_EQ(all[0].table("simulate").texts("stop_reason"), (std::vector<std::string>{"misses", "trials"}));
}

TEST_F(Resume, ACompleteFileIsLeftAsItIs) {
    ASSERT_EQ(run("simulate --model gaussian --trials 1000 " + out("a.h5") + " --resume"), 0)
        << "starts when there is none";
    const std::string before = slurp(folder_ / "a.h5");
    ASSERT_EQ(run("simulate --model gaussian --trials 1000 " + out("a.h5") + " --resume"), 0);
    EXPECT_EQ(slurp(log()), "mobalab simulate: " + (folder_ / "a.h5") + " is complete; nothing left to do\n");
    EXPECT_EQ(slurp(folder_ / "a.h5"), before);
}

/// Runs that go further than others, stop rules before and after.
struct Further {
    std::string points;
    std::string before;
    std::string after;
};

TEST_F(Resume, AFinishedFileGoesOnToTheBytesOfALongerRun) {
    const std::string gaussian = "--model gaussian --head-dim 64,256 --candidates 200 ";
    const std::string sphere = "--head-dim 64 --block-size 16 --candidates 60 --mu-signal 0.3,0.9 ";
    for (const auto& [points, before, after] : std::vector<Further>{
             {gaussian, "--trials 12345", "--trials 30000"},  // the first ends within a chunk
             {gaussian, "--trials 12345 --threads 1", "--trials 3e4 --threads 3"},
             {gaussian, "--trials 2e4 --max-misses 1500", "--trials 4e4 --max-misses 3000"},
             {gaussian, "--trials 2e4 --max-misses 1500", "--trials 2e4"},
             {gaussian, "--trials 2e4 --target-relative-error 0.1 --method block",
              "--trials 3e4 --target-relative-error 0.02 --method block"},
             {sphere, "--target-relative-error 0.3", "--target-relative-error 0.03"},  // by weights, or another method
             {sphere, "--trials 3000 --method affinity", "--trials 5001 --method affinity"}}) {
        const std::string line = "simulate " + points;
        ASSERT_EQ(run(line + after + " " + out("a.h5")), 0) << slurp(log());
        std::filesystem::rename(folder_ / "a.h5", folder_ / "at_once.h5");
        ASSERT_EQ(run(line + before + " " + out("a.h5")), 0) << slurp(log());
        ASSERT_NE(slurp(folder_ / "a.h5"), slurp(folder_ / "at_once.h5"));
        ASSERT_EQ(run(line + after + " --resume " + out("a.h5")), 0) << slurp(log());
        EXPECT_NE(slurp(log()).find("mobalab simulate: going on from the trials that " + (folder_ / "a.h5")),
                  std::string::npos);
        EXPECT_EQ(slurp(folder_ / "a.h5"), slurp(folder_ / "at_once.h5")) << before << " -> " << after;
        EXPECT_FALSE(std::filesystem::exists(folder_ / "a.h5.journal"));
        std::filesystem::remove(folder_ / "a.h5");
    }
}

TEST_F(Resume, TrialsThatAFileHoldsAreNotDrawnAgain) {
    const std::string line = "simulate --model gaussian --candidates 200 --threads 1 ";
    ASSERT_EQ(run(line + "--trials 1e15 --max-seconds 0.3 " + out("a.h5")), 0) << slurp(log());
    const std::int64_t held = read_results(folder_ / "a.h5").table("simulate").integers("trials")[0];
    const Program program(mobalab_command(line + "--trials 2e15 --resume " + out("a.h5")), log());
    ASSERT_TRUE(wait_until([&] { return slurp(folder_ / "a.h5.journal").find("chunks") != std::string::npos; }));
    program.send(SIGKILL);
    program.wait();
    EXPECT_GE(parse_record(Journal::resume(folder_ / "a.h5.journal").records().at(0)).progress.stats.trials,
              static_cast<std::uint64_t>(held));
}

TEST_F(Resume, KilledWhileItGoesOnAFinishedFileIsNotLost) {
    const auto seed = std::random_device()();
    std::printf("seed %u\n", seed);
    std::mt19937 random(seed);
    const std::string line = "simulate --model gaussian --head-dim 64,256 --candidates 200 --threads 1 ";
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const std::string more = line + "--trials 8e4 ";
#else
    const std::string more = line + "--trials 12e5 ";
#endif
    const double seconds_before = seconds_of_programs();
    ASSERT_EQ(run(more + out("a.h5")), 0) << slurp(log());
    const double whole = seconds_of_programs() - seconds_before;
    const std::string at_once = slurp(folder_ / "a.h5");
    ASSERT_EQ(run(line + "--trials 5e4 --force " + out("a.h5")), 0) << slurp(log());
    const std::string before = slurp(folder_ / "a.h5");
    int kills = 0;
    for (int attempt = 0; kills < 8 && attempt < 40; ++attempt) {
        const Program program(mobalab_command(more + "--resume " + out("a.h5")), log());
        std::this_thread::sleep_for(
            std::chrono::duration<double>(std::uniform_real_distribution<double>(0.0, 0.15 * whole)(random)));
        program.send(SIGKILL);
        kills += program.wait() == -SIGKILL ? 1 : 0;
        const std::string left = slurp(folder_ / "a.h5");
        ASSERT_TRUE(left == before || left == at_once);
        if (left == at_once) {  // it got to the end: the next begins anew
            std::filesystem::remove(folder_ / "a.h5.journal");
            spill(folder_ / "a.h5", before);
        }
    }
    EXPECT_EQ(kills, 8);
    ASSERT_EQ(run(more + "--resume " + out("a.h5")), 0) << slurp(log());
    EXPECT_EQ(slurp(folder_ / "a.h5"), at_once);
    EXPECT_EQ(run(more + "--resume " + out("a.h5")), 0);
    EXPECT_NE(slurp(log()).find("is complete; nothing left to do"), std::string::npos);
}

TEST_F(Resume, AFinishedFileGoesNoOtherWay) {
    const std::string line =
        "simulate --model gaussian --candidates 200 --trials 5000 --max-misses 400 "
        "--target-relative-error 0.05 ";
    ASSERT_EQ(run(line + out("a.h5")), 0) << slurp(log());
    const std::string held = slurp(folder_ / "a.h5");
    const auto refusal = [&](const std::string& flags) {
        EXPECT_EQ(run("simulate --candidates 200 --resume " + out("a.h5") + " " + flags), 2) << flags;
        EXPECT_EQ(slurp(folder_ / "a.h5"), held) << flags;
        EXPECT_FALSE(std::filesystem::exists(folder_ / "a.h5.journal")) << flags;
        return slurp(log());
    };
    const std::string error = "mobalab simulate: error: ";
    const std::string gaussian = "--model gaussian ";
    EXPECT_EQ(refusal(gaussian + "--trials 4999"),
              error +
                  "trials = 4999: the file was made with 5000, and --resume only adds; nearest valid: 5000; or give "
                  "another --out, or --force to begin anew\n");
    EXPECT_EQ(refusal(gaussian + "--trials 6000 --max-misses 399").find(error + "max-misses = 399: "), 0U);
    EXPECT_EQ(refusal(gaussian + "--trials 6000 --target-relative-error 0.06").find(error + "target-relative-error = "),
              0U);
    EXPECT_EQ(refusal(gaussian + "--trials 6000 --max-seconds 9").find(error + "max-seconds = 9: a finished file"), 0U);
    for (const std::string& other : std::vector<std::string>{
             gaussian + "--trials 6000 --seed 2", std::string("--trials 6000"), gaussian + "--trials 6000 --topk 4",
             gaussian + "--trials 6000 --topk 4,8", gaussian + "--trials 6000 --confidence 0.9"}) {
        EXPECT_NE(refusal(other).find("a.h5: holds another run (mobalab simulate --model gaussian"), std::string::npos)
            << other;
    }
}

TEST_F(Resume, AnotherRunsFileOrJournalIsRefused) {
    ASSERT_EQ(run("simulate --model gaussian --trials 1000 " + out("a.h5")), 0);
    EXPECT_EQ(run("simulate --model gaussian --topk 4 --resume " + out("a.h5")), 2);
    EXPECT_NE(slurp(log()).find("a.h5: holds another run (mobalab simulate --model gaussian --trials 1000 --out "),
              std::string::npos);
    EXPECT_EQ(run("simulate --model gaussian --trials 1000 --seed 2 --resume " + out("a.h5")), 2);
    ASSERT_EQ(run("theory --model gaussian " + out("t.h5")), 0);
    EXPECT_EQ(run("simulate --model gaussian --resume " + out("t.h5")), 2);
    spill(folder_ / "foreign.h5", "not HDF5");
    EXPECT_EQ(run("simulate --model gaussian --resume " + out("foreign.h5")), 2);
    EXPECT_EQ(slurp(folder_ / "foreign.h5"), "not HDF5");

    interrupt("b.h5");
    const std::string journal = slurp(folder_ / "b.h5.journal");
    EXPECT_EQ(run(slow_work + "--seed 2 --resume " + out("b.h5")), 2);
    EXPECT_NE(slurp(log()).find("holds another run"), std::string::npos);
    EXPECT_EQ(run(slow_work + out("b.h5")), 2) << "without --resume";
    EXPECT_EQ(slurp(log()), "mobalab simulate: error: " + (folder_ / "b.h5.journal") +
                                ": an interrupted run left it; add --resume to go on or --force to start afresh\n");
    EXPECT_EQ(slurp(folder_ / "b.h5.journal"), journal);
    EXPECT_EQ(run("simulate --model gaussian --trials 1000 --force " + out("b.h5")), 0) << slurp(log());
    EXPECT_FALSE(std::filesystem::exists(folder_ / "b.h5.journal"));
}

TEST_F(Resume, OtherCommandsKeepOffAnInterruptedRun) {
    interrupt("a.h5");
    EXPECT_EQ(run("theory --model gaussian " + out("a.h5")), 2);
    EXPECT_NE(slurp(log()).find("a.h5.journal: an interrupted run left it"), std::string::npos) << slurp(log());
    // A file that came to the path meanwhile is not this run's to replace.
    ASSERT_EQ(run("theory --model gaussian " + out("other.h5")), 0);
    std::filesystem::rename(folder_ / "other.h5", folder_ / "a.h5");
    EXPECT_EQ(run(slow_work + out("a.h5") + " --resume"), 2);
    EXPECT_NE(slurp(log()).find("a.h5: holds another run (mobalab theory"), std::string::npos) << slurp(log());
    EXPECT_EQ(run("theory --model gaussian --force " + out("a.h5")), 0);
    EXPECT_EQ(read_results(folder_ / "a.h5").subcommand, "theory");
    EXPECT_FALSE(std::filesystem::exists(folder_ / "a.h5.journal")) << "--force discards the interrupted run";
}

TEST_F(Resume, ACrashBeforeTheJournalIsRemovedIsHarmless) {
    interrupt("a.h5");
    const std::string journal = slurp(folder_ / "a.h5.journal");
    ASSERT_EQ(run(slow_work + out("a.h5") + " --resume"), 0) << slurp(log());
    const std::string whole = slurp(folder_ / "a.h5");
    spill(folder_ / "a.h5.journal", journal);
    EXPECT_EQ(run(slow_work + out("a.h5") + " --resume"), 0) << slurp(log());
    EXPECT_EQ(slurp(folder_ / "a.h5"), whole);
}

TEST_F(Resume, ATornJournalIsContinued) {
    ASSERT_EQ(run(slow_work + out("a.h5")), 0) << slurp(log());
    std::filesystem::rename(folder_ / "a.h5", folder_ / "uninterrupted.h5");
    interrupt("a.h5");
    const std::string journal = slurp(folder_ / "a.h5.journal");
    spill(folder_ / "a.h5.journal", journal.substr(0, journal.size() - 3));
    ASSERT_EQ(run(slow_work + out("a.h5") + " --resume"), 0) << slurp(log());
    EXPECT_EQ(slurp(folder_ / "a.h5"), slurp(folder_ / "uninterrupted.h5"));
}

TEST_F(Resume, ForceReplacesAnOldFileOnlyAtTheEnd) {
    ASSERT_EQ(run("theory --model gaussian " + out("a.h5")), 0);
    const std::string old_file = slurp(folder_ / "a.h5");
    const Program program(mobalab_command("simulate --model gaussian --trials 1e15 --force " + out("a.h5")), log());
    const bool began = wait_until([&] { return has_chunks("a.h5"); });
    program.send(SIGKILL);
    ASSERT_EQ(program.wait(), -SIGKILL);
    EXPECT_TRUE(began) << slurp(log());
    EXPECT_EQ(slurp(folder_ / "a.h5"), old_file);
}

TEST_F(Resume, CtrlCStopsPolitelyAndTheRunGoesOn) {
    EXPECT_EQ(signalled_run(slow_work, "a.h5", SIGINT), -SIGINT);
    // "in point 1 of 2" is left out when the machine is so busy that the run is ended before it has looked.
    EXPECT_EQ(slurp(log()).find("mobalab simulate: error: interrupted"), 0U) << slurp(log());
    EXPECT_NE(slurp(log()).find("the same command with --resume goes on from here\n"), std::string::npos);
    EXPECT_EQ(run(slow_work + "--resume " + out("a.h5")), 0) << slurp(log());
}

TEST_F(Resume, ASecondProcessOnTheSameFileIsRefused) {
    const Program first(mobalab_command("simulate --model gaussian --trials 1e15 " + out("a.h5")), log());
    EXPECT_TRUE(wait_until([&] { return file_exists(folder_ / "a.h5.journal"); }));
    const std::string second_log = folder_ / "second";
    EXPECT_EQ(
        Program(mobalab_command("simulate --model gaussian --trials 1e15 --resume " + out("a.h5")), second_log).wait(),
        2);
    EXPECT_EQ(slurp(second_log), "mobalab simulate: error: " + (folder_ / "a.h5") +
                                     ": another mobalab is writing it; wait for it or give another --out\n");
    first.send(SIGKILL);
    EXPECT_EQ(first.wait(), -SIGKILL);
}

/// A file size limit for the programs started while it lives: to write() it is a full disk.
class FullDisk {
public:
    explicit FullDisk(rlim_t bytes) {
        ::getrlimit(RLIMIT_FSIZE, &before_);
        const struct rlimit limit { bytes, before_.rlim_max };
        ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~FullDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }
    FullDisk(const FullDisk&) = delete;
    FullDisk& operator=(const FullDisk&) = delete;

private:
    struct rlimit before_ {};
};

TEST_F(Resume, AFullDiskLosesNothing) {
    ASSERT_EQ(run(slow_work + out("a.h5")), 0) << slurp(log());
    const std::uintmax_t size = std::filesystem::file_size(folder_ / "a.h5");
    std::filesystem::rename(folder_ / "a.h5", folder_ / "uninterrupted.h5");
    for (const std::uintmax_t room : {std::uintmax_t{300}, std::uintmax_t{2000}, size - 1}) {
        const FullDisk full(room);
        EXPECT_EQ(run(slow_work + out("a.h5") + " --resume"), 2) << "room for " << room;
        const std::string text = slurp(log());
        EXPECT_NE(text.find("File too large"), std::string::npos) << text;
        EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
        EXPECT_FALSE(std::filesystem::exists(folder_ / "a.h5"));
        EXPECT_FALSE(std::filesystem::exists(folder_ / "a.h5.new"));
    }
    EXPECT_EQ(run(slow_work + out("a.h5") + " --resume"), 0) << slurp(log());
    EXPECT_EQ(slurp(folder_ / "a.h5"), slurp(folder_ / "uninterrupted.h5"));
}

TEST_F(Resume, ADiskThatFillsUpLosesNothing) {
    std::filesystem::create_directory(folder_ / "disk");
    const SmallDisk disk(folder_ / "disk", "1m");
    if (!disk.mounted()) {
        GTEST_SKIP() << "no file system can be mounted here";
    }
    const std::string line = slow_work + "--resume " + out("disk/a.h5");
    ASSERT_EQ(run(line), 0) << slurp(log());
    const std::string whole = slurp(folder_ / "disk/a.h5");
    std::filesystem::remove(folder_ / "disk/a.h5");
    for (const std::size_t room : {0U, 4096U, 8192U, 16384U}) {
        disk.fill(room);
        EXPECT_EQ(run(line), 2) << "room for " << room;
        const std::string text = slurp(log());
        EXPECT_NE(text.find("No space left on device"), std::string::npos) << text;
        EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
        EXPECT_FALSE(std::filesystem::exists(folder_ / "disk/a.h5"));
        EXPECT_FALSE(std::filesystem::exists(folder_ / "disk/a.h5.new"));
    }
    std::filesystem::remove(disk.filler());
    EXPECT_EQ(run(line), 0) << slurp(log());
    EXPECT_EQ(slurp(folder_ / "disk/a.h5"), whole);
}

TEST_F(Resume, AReadOnlyFolderIsAnErrorBeforeAnyWork) {
    std::filesystem::create_directory(folder_ / "disk");
    const SmallDisk disk(folder_ / "disk", "1m");
    if (!disk.mounted() || !disk.make_read_only()) {
        GTEST_SKIP() << "no file system can be mounted here";
    }
    const std::string path = folder_ / "disk/a.h5";
    EXPECT_EQ(run("simulate --model gaussian --trials 1e15 --out " + path), 2);
    EXPECT_EQ(slurp(log()), "mobalab simulate: error: " + path + ": cannot be written: Read-only file system\n");
}

TEST_F(Resume, AFullDiskBehindStdoutIsAnError) {
    const std::string command =
        std::string("'" MOBALAB_PROGRAM "'") + " theory --model gaussian > /dev/full 2> " + log();
    const int status = std::system(command.c_str());
    EXPECT_EQ(WEXITSTATUS(status), 2);
    EXPECT_EQ(slurp(log()), "mobalab theory: error: stdout: cannot be written; is the disk full?\n");
}

}  // namespace
}  // namespace mobalab::experiments
