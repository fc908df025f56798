#pragma once

#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <condition_variable>

#include "experiments/ranks/rank_mailbox.h"
#include "experiments/ranks/work_dealer.h"

namespace mobalab::experiments {

/// The side of every rank but 0: answers requests. Only the thread that calls begin() uses the mailbox.
class RankHelper : public WorkDealer {
public:
    explicit RankHelper(RankMailbox& mailbox) : mailbox_(mailbox) {}

    bool begin(int threads, const std::string& agreed, const Handler& handler) override;
    int helpers() const override { return 0; }
    std::optional<std::string> ask(const std::string&) override { return std::nullopt; }
    std::string lost_rank() const override { return ""; }

    /// Tells rank 0 that this rank cannot go on.
    void fail(const std::string& why) { mailbox_.post(0, Note::failure, why); }

    /// Waits until rank 0 wants nothing more, whatever it still asks.
    void wait_for_dismissal();

    /// After Dismissed: the last note, once everything before it is out.
    void say_farewell();

private:
    Message next_message();
    void serve(int threads, const Handler& handler);

    RankMailbox& mailbox_;
    std::optional<std::string> begun_;  ///< the next section's begin has come, with this text
};

}  // namespace mobalab::experiments
