// How rank 0 shares work, without MPI: every helper is a process of its own at the end of a socket. Under the thread
// sanitizer this sees the threads of both sides, which it cannot inside MPI.

#include "experiments/ranks/rank_dealer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <map>
#include <thread>

#include "experiments/base/interrupt.h"
#include "experiments/base/this_rank.h"
#include "experiments/ranks/rank_helper.h"
#include "experiments/simulation/chunk_message.h"
#include "sim/engine/engine.h"

namespace mobalab::experiments {
namespace {

using testing::HasSubstr;

/// One socket a rank, one packet a message.
class SocketMailbox : public RankMailbox {
public:
    explicit SocketMailbox(std::map<int, int> sockets) : sockets_(std::move(sockets)), buffer_(std::size_t{1} << 20U) {}

    void post(int rank, Note note, std::string text) override {
        text.insert(text.begin(), static_cast<char>(note));
        unsent_.push_back({rank, note, std::move(text)});
        all_sent();
    }

    std::optional<Message> receive() override {
        all_sent();
        for (const auto& [rank, socket] : sockets_) {
            const ssize_t size = ::recv(socket, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
            if (size > 0) {
                return Message{rank, static_cast<Note>(buffer_[0]),
                               std::string(buffer_.data() + 1, static_cast<std::size_t>(size - 1))};
            }
        }
        return std::nullopt;
    }

    bool all_sent() override {
        while (!unsent_.empty()) {
            const Message& message = unsent_.front();
            const ssize_t sent = ::send(sockets_.at(message.rank), message.text.data(), message.text.size(),
                                        MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent < 0 && errno == EAGAIN) {
                return false;
            }
            unsent_.pop_front();
        }
        return true;
    }

private:
    std::map<int, int> sockets_;
    std::vector<char> buffer_;
    std::deque<Message> unsent_;
};

/// What a helper does between its start and its farewell.
using Life = std::function<void(RankHelper&)>;

/// Rank 0 in this process and `count` helpers in others.
class Ranks {
public:
    Ranks(int count, const Life& life) {
        this_rank().task = "a task";
        std::map<int, int> sockets;
        places_.push_back({"here", "", ::getpid()});
        for (int rank = 1; rank <= count; ++rank) {
            int ends[2];
            EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
            const pid_t child = ::fork();
            if (child == 0) {
                ::close(ends[0]);
                live(life, ends[1]);
            }
            ::close(ends[1]);
            sockets[rank] = ends[0];
            places_.push_back({"here", "", child});
        }
        mailbox_ = std::make_unique<SocketMailbox>(sockets);
        dealer_ = std::make_unique<RankDealer>(places_, *mailbox_);
    }
    ~Ranks() {
        for (std::size_t rank = 1; rank < places_.size(); ++rank) {
            ::kill(static_cast<pid_t>(places_[rank].process), SIGKILL);
            ::waitpid(static_cast<pid_t>(places_[rank].process), nullptr, 0);
        }
    }

    RankDealer& dealer() { return *dealer_; }
    pid_t process(int rank) const { return static_cast<pid_t>(places_.at(static_cast<std::size_t>(rank)).process); }

    /// All helpers have said farewell and ended well; the thread sanitizer ends a process with races badly.
    void expect_good_end() {
        EXPECT_TRUE(dealer_->dismiss());
        for (std::size_t rank = 1; rank < places_.size(); ++rank) {
            int status = 0;
            EXPECT_EQ(::waitpid(static_cast<pid_t>(places_[rank].process), &status, 0), places_[rank].process);
            EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "rank " << rank;
        }
        places_.resize(1);
    }

private:
    [[noreturn]] static void live(const Life& life, int socket) {
        SocketMailbox mailbox(std::map<int, int>{{0, socket}});
        RankHelper helper(mailbox);
        try {
            try {
                life(helper);
            } catch (const std::runtime_error& error) {
                helper.fail(error.what());
            }
            helper.wait_for_dismissal();
        } catch (const Dismissed&) {
            // rank 0 is done
        }
        helper.say_farewell();
        ::_exit(0);
    }

    std::vector<RankPlace> places_;
    std::unique_ptr<SocketMailbox> mailbox_;
    std::unique_ptr<RankDealer> dealer_;
};

/// body(0) ... body(7), each on a thread.
void on_eight_threads(const std::function<void(int)>& body) {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 8; ++thread) {
        threads.emplace_back([&body, thread] { body(thread); });
    }
}

TEST(RankDealer, EveryPieceIsAnsweredOnceAndByItsOwnSection) {
    Ranks ranks(3, [](RankHelper& helper) {
        for (const std::string section : {"first", "second", "third"}) {
            helper.begin(2, section, [&](const std::string& piece) { return section + " " + piece; });
        }
    });
    std::atomic<int> answered = 0;
    for (const std::string section : {"first", "second", "third"}) {
        ASSERT_TRUE(ranks.dealer().begin(1, section, {}));
        EXPECT_EQ(ranks.dealer().helpers(), 12);  // two pieces a thread
        on_eight_threads([&](int thread) {
            for (int i = 0; i < 100; ++i) {
                const std::string piece = fmt::format("{} {}", thread, i);
                const auto reply = ranks.dealer().ask(piece);
                ASSERT_TRUE(reply.has_value());  // more slots than threads
                EXPECT_EQ(*reply, section + " " + piece);
                ++answered;
            }
        });
    }
    EXPECT_EQ(answered, 3 * 8 * 100);
    ranks.expect_good_end();
}

analysis::RoutingPoint point() {
    return {.head_dim = 64, .block_size = 16, .candidates = 100, .topk = 4, .mu_signal = 0.6};
}

// The chunks of a point, as `simulate` deals them.
TEST(RankDealer, ChunksCountAsInOneProcess) {
    sim::Budget budget;
    budget.stop = {.max_trials = 400 * sim::chunk_trials(point()), .max_misses = 300 * sim::chunk_trials(point()) / 4};
    budget.threads = 2;
    const sim::SimulationResult alone = sim::simulate(point(), budget);
    Ranks ranks(3, [&](RankHelper& helper) {
        const sim::ChunkComputer computer(point(), budget);
        helper.begin(2, "", [&](const std::string& request) {
            const std::size_t space = request.find(' ');
            return bytes_of(computer({std::stoull(request), std::stoull(request.substr(space))}));
        });
    });
    ASSERT_TRUE(ranks.dealer().begin(2, "", {}));
    std::atomic<int> elsewhere = 0;
    budget.helpers = {ranks.dealer().helpers(),
                      [&](sim::TrialRange range) -> std::optional<std::vector<sim::TrialStats>> {
                          const auto reply = ranks.dealer().ask(fmt::format("{} {}", range.begin, range.end));
                          elsewhere += reply ? 1 : 0;
                          return reply ? std::optional(stats_of(*reply)) : std::nullopt;
                      }};
    const sim::SimulationResult shared = sim::simulate(point(), budget);
    EXPECT_EQ(shared.progress.stats, alone.progress.stats);
    EXPECT_EQ(shared.reason, alone.reason);
    EXPECT_GT(elsewhere, 50);
    ranks.expect_good_end();
}

TEST(RankDealer, AFailureNamesItsRankAndEndsAllWaiting) {
    Ranks ranks(2, [](RankHelper& helper) {
        helper.begin(2, "", [](const std::string& piece) -> std::string {
            if (piece == "5 50") {
                throw std::runtime_error("out of luck");
            }
            return piece;
        });
    });
    ASSERT_TRUE(ranks.dealer().begin(1, "", {}));
    std::atomic<int> told = 0;
    on_eight_threads([&](int thread) {
        try {
            for (int i = 0; i < 100000; ++i) {
                ranks.dealer().ask(fmt::format("{} {}", thread, i));
            }
        } catch (const std::runtime_error& error) {
            EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("rank "), HasSubstr(" on here): out of luck")));
            ++told;
        }
    });
    EXPECT_EQ(told, 8);
    ranks.expect_good_end();
}

TEST(RankDealer, AHelperWithAnotherTaskIsRefused) {
    Ranks ranks(2, [](RankHelper& helper) { helper.begin(1, "cpu", {}); });
    try {
        ranks.dealer().begin(1, "cuda", {});
        FAIL() << "not refused";
    } catch (const std::runtime_error& error) {
        EXPECT_THAT(error.what(), HasSubstr("was asked for something else (a task cpu) than rank 0 (a task cuda)"));
    }
    ranks.expect_good_end();
}

TEST(RankDealer, ALostRankEndsTheWait) {
    Ranks ranks(2, [](RankHelper& helper) {
        helper.begin(1, "", [](const std::string&) -> std::string {
            std::this_thread::sleep_for(std::chrono::hours(1));
            return "";
        });
    });
    ASSERT_TRUE(ranks.dealer().begin(1, "", {}));
    std::jthread killer([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        ::kill(ranks.process(2), SIGKILL);
        ::waitpid(ranks.process(2), nullptr, 0);
    });
    std::atomic<int> told = 0;
    on_eight_threads([&](int) {
        try {
            while (ranks.dealer().ask("a piece")) {
            }
            ++told;  // no helper was free
        } catch (const Interrupted& error) {
            EXPECT_THAT(error.what(), HasSubstr("while the ranks computed; with --out"));
            ++told;
        }
    });
    EXPECT_EQ(told, 8);
    EXPECT_EQ(ranks.dealer().lost_rank(), fmt::format("rank 2 (process {} on here)", ranks.process(2)));
}

}  // namespace
}  // namespace mobalab::experiments
