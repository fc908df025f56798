// Kills a sweep at fifty random moments. Whatever is left behind is continued to the end and must hold the bytes of an
// uninterrupted run: nothing lost, nothing counted twice.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <random>

#include "experiments/results/journal.h"
#include "experiments/results/results_file.h"
#include "experiments/simulation/simulation_record.h"
#include "tests/experiments/program.h"

namespace mobalab::experiments {
namespace {

using Seconds = std::chrono::duration<double>;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kills = 15;
#else
constexpr int kills = 50;
#endif
/// Twelve points, some of them stopped by their misses.
const std::string sweep = "simulate --model gaussian --head-dim 32:384:+32 --candidates 150 --threads 1 ";

std::uint64_t journalled_trials(const std::string& journal) {
    std::uint64_t trials = 0;
    const Journal found = Journal::resume(journal);
    for (const auto& [key, record] : found.records()) {
        trials += parse_record(record).progress.stats.trials;
    }
    return trials;
}

class Kill : public testing::Test {
protected:
    Kill() {
        ::setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
        const std::int64_t trials = trials_that_cost(0.2, sweep, log());
        stop_ = fmt::format("--trials {} --max-misses {} ", trials, trials * 3 / 5);
        const double before = seconds_of_programs();
        EXPECT_EQ(run("a.h5"), 0) << slurp(log());
        whole_ = seconds_of_programs() - before;
        expected_ = slurp(folder_ / "a.h5");
        std::filesystem::remove(folder_ / "a.h5");
        const auto seed = std::random_device()();
        std::printf("seed %u, an uninterrupted run costs %.2f s\n", seed, whole_);
        random_.seed(seed);
    }
    ~Kill() override { ::unsetenv("SOURCE_DATE_EPOCH"); }

    std::string log() const { return folder_ / "log"; }
    std::vector<std::string> command(const std::string& name) const {
        return mobalab_command(sweep + stop_ + "--resume --out " + (folder_ / name));
    }
    int run(const std::string& name) { return Program(command(name), log()).wait(); }

    /// Anywhere in the run, and every third time around its end, where the file comes and the journal goes.
    double moment() {
        const bool at_the_end = random_() % 3 == 0;
        return std::uniform_real_distribution<double>(at_the_end ? 0.85 * whole_ : 0.0, 1.1 * whole_)(random_);
    }

    TemporaryFolder folder_;
    std::string stop_;
    double whole_ = 0.0;
    std::string expected_;
    std::mt19937 random_;
};

TEST_F(Kill, AtFiftyRandomMoments) {
    int killed = 0;
    int runs = 0;
    std::uint64_t trials = 0;  // in the journal of the run that goes on
    while (killed < kills && runs < 4 * kills) {
        ++runs;
        const Program program(command("a.h5"), log());
        std::this_thread::sleep_for(Seconds(moment()));
        program.send(SIGKILL);
        if (program.wait() == 0) {  // it was over
            EXPECT_EQ(slurp(folder_ / "a.h5"), expected_);
            std::filesystem::remove(folder_ / "a.h5");
            trials = 0;
            continue;
        }
        ++killed;
        // A copy is continued to the end; the original goes on to be killed again, or is begun anew.
        for (const std::string suffix : {"", ".journal"}) {
            std::filesystem::remove(folder_ / ("b.h5" + suffix));
            if (std::filesystem::exists(folder_ / ("a.h5" + suffix))) {
                std::filesystem::copy_file(folder_ / ("a.h5" + suffix), folder_ / ("b.h5" + suffix));
            }
        }
        if (std::filesystem::exists(folder_ / "b.h5")) {
            ASSERT_EQ(slurp(folder_ / "b.h5"), expected_) << "a file that is not whole, kill " << killed;
        }
        if (std::filesystem::exists(folder_ / "b.h5.journal")) {
            const std::uint64_t now = journalled_trials(folder_ / "b.h5.journal");
            ASSERT_GE(now, trials) << "lost by kill " << killed;
            trials = now;
        }
        const bool began =
            std::filesystem::exists(folder_ / "b.h5") || std::filesystem::exists(folder_ / "b.h5.journal");
        ASSERT_EQ(run("b.h5"), 0) << slurp(log());
        if (began) {  // the recorded command, and so the bytes, are those of its first start
            ASSERT_EQ(slurp(folder_ / "b.h5"), expected_) << "kill " << killed;
        }
        ASSERT_FALSE(std::filesystem::exists(folder_ / "b.h5.journal"));
        ASSERT_FALSE(std::filesystem::exists(folder_ / "b.h5.lock"));
        if (random_() % 2 == 0) {
            std::filesystem::remove(folder_ / "a.h5.journal");
            std::filesystem::remove(folder_ / "a.h5");
            trials = 0;
        }
    }
    EXPECT_EQ(killed, kills) << "of " << runs << " runs";
}

TEST_F(Kill, OfTwoThatStartTogetherOneWrites) {
    for (int round = 0; round < 10; ++round) {
        const std::string name = fmt::format("r{}.h5", round);
        const std::string line = "simulate --model gaussian --trials 3e4 --out " + (folder_ / name);
        const Program first(mobalab_command(line), folder_ / "first");
        const Program second(mobalab_command(line), folder_ / "second");
        const int codes[] = {first.wait(), second.wait()};
        ASSERT_EQ(std::min(codes[0], codes[1]), 0) << slurp(folder_ / "first") << slurp(folder_ / "second");
        ASSERT_EQ(std::max(codes[0], codes[1]), 2);
        const std::string refusal = slurp(folder_ / (codes[0] == 2 ? "first" : "second"));
        ASSERT_TRUE(refusal.find("another mobalab is writing it") != std::string::npos ||
                    refusal.find("is never overwritten") != std::string::npos ||
                    refusal.find("an interrupted run left it") != std::string::npos)
            << refusal;
        ASSERT_EQ(read_results(folder_ / name).table("simulate").integers("trials"), std::vector<std::int64_t>{30000});
    }
}

}  // namespace
}  // namespace mobalab::experiments
