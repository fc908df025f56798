#pragma once

#include <mpi.h>

#include <list>

#include "experiments/ranks/rank_mailbox.h"

namespace mobalab::experiments {

/// The mailbox of this rank of MPI_COMM_WORLD.
class MpiMailbox : public RankMailbox {
public:
    void post(int rank, Note note, std::string text) override;
    std::optional<Message> receive() override;
    bool all_sent() override;

private:
    struct Sending {
        std::string text;
        MPI_Request request;
    };
    std::list<Sending> sending_;
};

}  // namespace mobalab::experiments
