#include "experiments/ranks/rank_dealer.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "experiments/base/interrupt.h"
#include "experiments/base/this_rank.h"

namespace mobalab::experiments {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// The next piece waits at the helper while it computes one.
constexpr int pieces_a_thread = 2;

/// After a signal, what is being computed elsewhere may still come.
constexpr auto patience = 300ms;

constexpr const char* how_to_go_on = "; with --out the same command and --resume go on, on any number of ranks";

}  // namespace

RankDealer::RankDealer(std::vector<RankPlace> places, RankMailbox& mailbox)
    : places_(std::move(places)), mailbox_(mailbox), speaker_([this](const std::stop_token& stop) { speak(stop); }) {}

std::string RankDealer::name_of(int rank) const {
    const RankPlace& place = places_[static_cast<std::size_t>(rank)];
    return fmt::format("rank {} (process {} on {})", rank, place.process, place.host);
}

std::string RankDealer::lost_rank() const {
    // Other hosts are watched by mpirun, which then stops this process with a signal.
    for (std::size_t rank = 1; rank < places_.size(); ++rank) {
        const RankPlace& place = places_[rank];
        const bool here = place.host == places_[0].host && place.process_space == places_[0].process_space;
        if (here && ::kill(static_cast<pid_t>(place.process), 0) != 0 && errno == ESRCH) {
            return name_of(static_cast<int>(rank));
        }
    }
    return "";
}

void RankDealer::check_failure() const {
    if (!failure_.empty()) {
        throw std::runtime_error(failure_);
    }
}

/// False when a signal came or a rank is lost, and what is waited for did not come soon after.
bool RankDealer::wait(std::unique_lock<std::mutex>& lock, const std::function<bool()>& ready) {
    std::optional<Clock::time_point> give_up;
    while (!received_.wait_for(lock, 50ms, ready)) {
        if (!give_up && (interrupted() || !lost_rank().empty())) {
            give_up = Clock::now() + patience;
        }
        if (give_up && Clock::now() > *give_up) {
            return false;
        }
    }
    return true;
}

bool RankDealer::begin(int, const std::string& agreed, const Handler&) {
    std::unique_lock lock(mutex_);
    ready_.assign(places_.size(), 0);
    ready_[0] = 1;
    tell_all(Note::begin, this_rank().task + " " + agreed);
    const bool came =
        wait(lock, [&] { return !failure_.empty() || std::find(ready_.begin(), ready_.end(), 0) == ready_.end(); });
    check_failure();
    if (!came) {
        throw Interrupted(stop_cause() + " while the work was dealt" + how_to_go_on);
    }
    slots_.clear();
    for (int depth = 0; depth < pieces_a_thread; ++depth) {
        for (int rank = 1; rank < ranks(); ++rank) {
            slots_.resize(slots_.size() + static_cast<std::size_t>(ready_[static_cast<std::size_t>(rank)]), {rank});
        }
    }
    free_.clear();
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
        free_.insert(slot);
    }
    return true;
}

int RankDealer::helpers() const {
    const std::lock_guard lock(mutex_);
    return static_cast<int>(slots_.size());
}

std::optional<std::string> RankDealer::ask(const std::string& request) {
    std::unique_lock lock(mutex_);
    check_failure();
    if (free_.empty()) {
        return std::nullopt;
    }
    const std::size_t number = free_.extract(free_.begin()).value();
    Slot& slot = slots_[number];
    slot.reply.reset();
    outgoing_.push_back({slot.rank, Note::request, fmt::format("{} {}", number, request)});
    posted_.notify_one();
    const bool came = wait(lock, [&] { return slot.reply.has_value() || !failure_.empty(); });
    check_failure();
    if (!came) {
        throw Interrupted(stop_cause() + " while the ranks computed" + how_to_go_on);
    }
    free_.insert(number);
    return std::move(*slot.reply);
}

void RankDealer::tell_all(Note note, const std::string& text) {
    for (int rank = 1; rank < ranks(); ++rank) {
        outgoing_.push_back({rank, note, text});
    }
    posted_.notify_one();
}

bool RankDealer::dismiss() {
    std::unique_lock lock(mutex_);
    tell_all(Note::quit);
    if (!wait(lock, [&] { return farewells_ == ranks() - 1; })) {
        return false;
    }
    lock.unlock();
    speaker_.request_stop();
    speaker_.join();
    return true;
}

void RankDealer::abort() {
    {
        const std::lock_guard lock(mutex_);
        tell_all(Note::abort);
    }
    std::this_thread::sleep_for(20ms);
}

/// MPI has no way to sleep until a message comes, so this looks for one, at longer and longer intervals: a rank on
/// every core leaves no core for spinning.
void RankDealer::speak(const std::stop_token& stop) {
    constexpr auto shortest_nap = 10us;
    auto nap = shortest_nap;
    while (!stop.stop_requested()) {
        std::unique_lock lock(mutex_);
        while (!outgoing_.empty()) {
            mailbox_.post(outgoing_.front().rank, outgoing_.front().note, std::move(outgoing_.front().text));
            outgoing_.pop_front();
            nap = shortest_nap;
        }
        lock.unlock();
        const std::optional<Message> message = mailbox_.receive();
        lock.lock();
        if (message) {
            take(*message);
            nap = shortest_nap;
        } else if (outgoing_.empty()) {
            posted_.wait_for(lock, nap);
            nap = std::min<std::chrono::microseconds>(2 * nap, 500us);
        }
    }
}

void RankDealer::take(const Message& message) {
    const auto rank = static_cast<std::size_t>(message.rank);
    switch (message.note) {
        case Note::ready:
            ready_[rank] = std::stoi(message.text);
            break;
        case Note::reply: {
            const std::size_t space = message.text.find(' ');
            slots_[std::stoul(message.text.substr(0, space))].reply = message.text.substr(space + 1);
            break;
        }
        case Note::failure:
            if (failure_.empty()) {
                failure_ = fmt::format("{}: {}", name_of(message.rank), message.text);
            }
            break;
        case Note::farewell:
            ++farewells_;
            break;
        default:
            failure_ = fmt::format("{}: sent what no helper sends", name_of(message.rank));
    }
    received_.notify_all();
}

}  // namespace mobalab::experiments
