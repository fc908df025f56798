#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "experiments/ranks/rank_mailbox.h"
#include "experiments/ranks/work_dealer.h"

namespace mobalab::experiments {

/// Where a rank runs.
struct RankPlace {
    std::string host;
    std::string process_space;  ///< in which `process` is a number: containers of a host have their own
    std::int64_t process = 0;
};

/// Rank 0's side. Threads that ask() wait as long as a helper of another process computes for them; one thread of its
/// own speaks to the other ranks for all of them.
class RankDealer : public WorkDealer {
public:
    /// `places` of all ranks; `mailbox` is from here on used by a thread of the dealer's.
    RankDealer(std::vector<RankPlace> places, RankMailbox& mailbox);

    bool begin(int threads, const std::string& agreed, const Handler& handler) override;
    int helpers() const override;
    std::optional<std::string> ask(const std::string& request) override;
    std::string lost_rank() const override;

    /// Sends the others home; false when not all said farewell because one was lost or a signal came.
    bool dismiss();

    /// Tells the others to end at once and gives the message a moment. Nothing may be asked any more.
    void abort();

private:
    struct Slot {
        int rank;
        std::optional<std::string> reply = std::nullopt;
    };

    void tell_all(Note note, const std::string& text = "");
    void speak(const std::stop_token& stop);
    void take(const Message& message);
    bool wait(std::unique_lock<std::mutex>& lock, const std::function<bool()>& ready);
    void check_failure() const;
    std::string name_of(int rank) const;
    int ranks() const { return static_cast<int>(places_.size()); }

    std::vector<RankPlace> places_;

    mutable std::mutex mutex_;
    std::condition_variable posted_;    ///< a message to send
    std::condition_variable received_;  ///< a reply, or another reason to look
    std::deque<Message> outgoing_;
    std::vector<Slot> slots_;
    std::set<std::size_t> free_;  ///< slots; the first are the first of each thread of a helper
    std::vector<int> ready_;      ///< threads of each rank in this section; 0: not there yet
    int farewells_ = 0;
    std::string failure_;

    RankMailbox& mailbox_;  ///< of the speaking thread
    std::jthread speaker_;
};

}  // namespace mobalab::experiments
