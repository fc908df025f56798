#include "experiments/ranks/rank_helper.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "experiments/base/interrupt.h"
#include "experiments/base/terminal.h"
#include "experiments/base/this_rank.h"

namespace mobalab::experiments {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Grows while there is nothing to do: a rank on every core leaves none for spinning.
class Nap {
public:
    void take() {
        std::this_thread::sleep_for(length_);
        length_ = std::min<std::chrono::microseconds>(2 * length_, 500us);
    }
    void shorten() { length_ = shortest; }

private:
    static constexpr auto shortest = std::chrono::microseconds(10);
    std::chrono::microseconds length_ = shortest;
};

/// After a signal rank 0 gets a moment to say goodbye; it may be gone.
void end_if_orphaned() {
    static std::optional<Clock::time_point> since;
    if (interrupted()) {
        since = since.value_or(Clock::now());
        if (Clock::now() - *since > 1s) {
            ::_exit(exit_error);
        }
    }
}

/// Requests computed on threads of their own.
class Pool {
public:
    Pool(int threads, const WorkDealer::Handler& handler) : handler_(handler) {
        for (int i = 0; i < threads; ++i) {
            threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
        }
    }

    void add(std::string request) {
        const std::lock_guard lock(mutex_);
        requests_.push_back(std::move(request));
        added_.notify_one();
    }

    /// What has been computed, or why it could not be.
    std::deque<std::pair<Note, std::string>> take_answers() {
        const std::lock_guard lock(mutex_);
        return std::exchange(answers_, {});
    }

private:
    void work(const std::stop_token& stop) {
        std::unique_lock lock(mutex_);
        while (added_.wait(lock, stop, [this] { return !requests_.empty(); }) && !stop.stop_requested()) {
            const std::string request = std::move(requests_.front());
            requests_.pop_front();
            lock.unlock();
            std::pair<Note, std::string> answer = answer_to(request);
            lock.lock();
            answers_.push_back(std::move(answer));
        }
    }

    std::pair<Note, std::string> answer_to(const std::string& request) const {
        const std::size_t space = request.find(' ');
        try {
            return {Note::reply, request.substr(0, space + 1) + handler_(request.substr(space + 1))};
        } catch (const std::exception& error) {
            return {Note::failure, error.what()};
        }
    }

    const WorkDealer::Handler& handler_;
    std::mutex mutex_;
    std::condition_variable_any added_;
    std::deque<std::string> requests_;
    std::deque<std::pair<Note, std::string>> answers_;
    std::vector<std::jthread> threads_;  ///< last: ends before what it uses
};

}  // namespace

Message RankHelper::next_message() {
    for (Nap nap;; nap.take()) {
        if (std::optional<Message> message = mailbox_.receive()) {
            return std::move(*message);
        }
        end_if_orphaned();
    }
}

bool RankHelper::begin(int threads, const std::string& agreed, const Handler& handler) {
    while (!begun_) {
        Message message = next_message();
        if (message.note == Note::abort) {
            ::_exit(exit_error);
        }
        if (message.note == Note::quit) {
            throw Dismissed{};
        }
        if (message.note == Note::begin) {
            begun_ = std::move(message.text);
        }
    }
    const std::string wanted = *std::exchange(begun_, std::nullopt);
    const std::string mine = this_rank().task + " " + agreed;
    if (wanted != mine) {
        throw std::runtime_error(fmt::format("was asked for something else ({}) than rank 0 ({})", mine, wanted));
    }
    mailbox_.post(0, Note::ready, std::to_string(std::max(1, threads)));
    serve(std::max(1, threads), handler);
    return false;
}

void RankHelper::serve(int threads, const Handler& handler) {
    Pool pool(threads, handler);
    for (Nap nap;;) {
        auto answers = pool.take_answers();
        for (auto& [note, text] : answers) {
            if (note != Note::failure || !interrupted()) {  // a signal stops pieces: no failure of theirs
                mailbox_.post(0, note, std::move(text));
            }
        }
        std::optional<Message> message = mailbox_.receive();
        if (!message && answers.empty()) {
            end_if_orphaned();
            nap.take();
            continue;
        }
        nap.shorten();
        if (!message) {
            continue;
        }
        switch (message->note) {
            case Note::begin:
                begun_ = std::move(message->text);
                return;
            case Note::quit:
                interrupt();  // pieces nobody waits for any more
                throw Dismissed{};
            case Note::abort:
                ::_exit(exit_error);
            default:
                pool.add(std::move(message->text));
        }
    }
}

void RankHelper::wait_for_dismissal() {
    for (Note note = Note::begin; note != Note::quit;) {
        note = next_message().note;
        if (note == Note::abort) {
            ::_exit(exit_error);
        }
    }
}

void RankHelper::say_farewell() {
    mailbox_.post(0, Note::farewell, "");
    for (Nap nap; !mailbox_.all_sent(); nap.take()) {
        end_if_orphaned();
    }
}

}  // namespace mobalab::experiments
