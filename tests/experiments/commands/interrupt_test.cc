// Signals to real processes in the middle of work that would take hours: that they end at all is the proof that they
// did not finish it. Nothing here looks at a clock.

#include "experiments/base/interrupt.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <functional>

#include "tests/experiments/program.h"

namespace mobalab::experiments {
namespace {

/// Hours: 60,001 points of 400 needles.
const std::string long_theory =
    "theory --needles 400 --topk 500 --candidates 1e6 --mu-signal 0.3:0.9:+0.00001 --goal all";

/// One trial takes minutes, and nothing looks at the flag meanwhile.
const std::string long_trial =
    "simulate --method vector --model vector --head-dim 4096 --block-size 4K --candidates 1e4 --threads 1";

class Interrupt : public testing::Test {
protected:
    std::string log() const { return folder_ / "log"; }
    std::string out() const { return folder_ / "a.h5"; }

    /// What `line` says when `number` comes after `ready`; it must end by that signal.
    std::string stopped(const std::string& line, int number, const std::function<bool()>& ready) {
        const Program program(mobalab_command(line), log());
        EXPECT_TRUE(wait_until(ready)) << line << slurp(log());
        program.send(number);
        EXPECT_EQ(program.wait(), -number) << line << slurp(log());
        return slurp(log());
    }

    /// The same for a command with --out: its lock is there before the work begins.
    std::string stopped_with_file(const std::string& line, int number) {
        return stopped(line + " --out " + out(), number, [&] { return std::filesystem::exists(out() + ".lock"); });
    }

    TemporaryFolder folder_;
};

TEST_F(Interrupt, TheoryStopsAtTheFirstSignalAndWritesNothing) {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
        EXPECT_EQ(stopped_with_file(long_theory, number), "mobalab theory: error: interrupted; nothing was written\n");
        EXPECT_EQ(folder_.listing(), "log");
    }
}

TEST_F(Interrupt, SolvingStopsToo) {
    const std::string solve =
        "theory --solve mu-signal --needles 400 --topk 500 --goal all --wanted-hit 0.5 --candidates 100000:199999:+1";
    EXPECT_EQ(stopped_with_file(solve, SIGINT), "mobalab theory: error: interrupted; nothing was written\n");
    EXPECT_EQ(folder_.listing(), "log");
}

TEST_F(Interrupt, ATrialThatTakesLongIsNotWaitedFor) {
    const auto journal_is_there = [&] { return std::filesystem::exists(out() + ".journal"); };
    EXPECT_EQ(stopped(long_trial + " --out " + out(), SIGTERM, journal_is_there),
              "mobalab simulate: error: interrupted; the same command with --resume goes on from here\n");
    EXPECT_EQ(folder_.listing(), "a.h5.journal log");
    // And its journal is whole: the run goes on, until the next signal.
    const std::string resumed = long_trial + " --resume --out " + out();
    const auto lock_is_there = [&] { return std::filesystem::exists(out() + ".lock"); };
    EXPECT_EQ(stopped(resumed, SIGINT, lock_is_there),
              "mobalab simulate: error: interrupted; the same command with --resume goes on from here\n");
    EXPECT_EQ(folder_.listing(), "a.h5.journal log");
}

TEST_F(Interrupt, RouteValidateAndBenchStop) {
    const std::string shape = " --head-dim 128 --block-size 64 --seq-len 512K --threads 1";
    for (const std::string command : {"route", "validate"}) {
        const std::string said = stopped_with_file(command + shape, SIGINT);
        EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
        EXPECT_EQ(said.find("mobalab " + command + ": error: interrupted"), 0U) << said;
        EXPECT_NE(said.find("--resume go"), std::string::npos) << said;
        EXPECT_EQ(folder_.listing(), "a.h5.journal log");
        std::filesystem::remove(out() + ".journal");
    }
    const std::string said = stopped_with_file("bench" + shape, SIGTERM);
    EXPECT_EQ(said.find("mobalab bench: error: interrupted; "), 0U) << said;
    EXPECT_EQ(folder_.listing(), "log");
}

TEST_F(Interrupt, NohupIsRespected) {
    std::signal(SIGHUP, SIG_IGN);  // as nohup does for what it starts
    const Program program(mobalab_command(long_theory + " --out " + out()), log());
    std::signal(SIGHUP, SIG_DFL);
    ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(out() + ".lock"); }));
    const std::string status = slurp("/proc/" + std::to_string(program.process()) + "/status");
    const std::uint64_t ignored = std::stoull(status.substr(status.find("SigIgn:") + 7), nullptr, 16);
    EXPECT_NE(ignored & (1U << (SIGHUP - 1)), 0U) << status;
    program.send(SIGHUP);
    program.send(SIGTERM);
    EXPECT_EQ(program.wait(), -SIGTERM) << slurp(log());
}

TEST_F(Interrupt, ClosedStreamsDoNotEndUpInTheFile) {
    const std::string command = std::string("exec ") + MOBALAB_PROGRAM + " theory --out " + out() + " >&- <&-";
    EXPECT_EQ(Program({"sh", "-c", command}, log()).wait(), 2);
    EXPECT_EQ(slurp(log()), "mobalab theory: error: stdout: cannot be written; is the disk full?\n");
    EXPECT_EQ(Program(mobalab_command("theory --force --out " + out()), log()).wait(), 0);
    EXPECT_EQ(folder_.listing(), "a.h5 log");
}

// The last resort by itself: work that never looks at the flag.

[[noreturn]] void never_look(int number) {
    ::raise(number);
    for (;;) {
        ::pause();
    }
}

TEST(InterruptDeathTest, WorkThatNeverLooksIsEndedAndCleanedUpAfter) {
    const TemporaryFolder folder;
    for (const int number : {SIGINT, SIGTERM}) {
        spill(folder / "half", "half");
        spill(folder / "whole", "whole");
        EXPECT_EXIT(
            {
                stop_on_signals();
                set_speaker("mobalab simulate");
                const StopAdvice outer("the outer advice");
                const StopAdvice inner("the inner advice");
                const Leftover half(folder / "half");
                { const Leftover whole(folder / "whole"); }
                never_look(number);
            },
            testing::KilledBySignal(number), "^mobalab simulate: error: interrupted; the inner advice\n$");
        EXPECT_EQ(folder.listing(), "whole");
    }
}

TEST(InterruptDeathTest, ASecondSignalEndsItAtOnce) {
    EXPECT_EXIT(
        {
            stop_on_signals();
            ::raise(SIGINT);
            never_look(SIGINT);
        },
        testing::KilledBySignal(SIGINT), "^$");
}

TEST(InterruptDeathTest, AHelperOfARunOnManyRanksIsSilent) {
    EXPECT_EXIT(
        {
            stop_on_signals();
            leave_the_last_word_to_rank_0();
            set_speaker("mobalab simulate");
            never_look(SIGTERM);
        },
        testing::KilledBySignal(SIGTERM), "^$");
}

TEST(InterruptDeathTest, WorkThatLooksEndsInOrderWithItsOwnWords) {
    EXPECT_EXIT(
        {
            stop_on_signals();
            ::raise(SIGTERM);
            try {
                stop_if_interrupted();
            } catch (const Interrupted& interruption) {
                if (take_last_word()) {
                    std::fprintf(stderr, "%s\n", interruption.what());
                }
                end_by_signal(interrupted_code());
            }
        },
        testing::KilledBySignal(SIGTERM), "interrupted; nothing was written\n$");
}

}  // namespace
}  // namespace mobalab::experiments
