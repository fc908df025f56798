#include "experiments/ranks/mpi_mailbox.h"

#include <utility>

namespace mobalab::experiments {

void MpiMailbox::post(int rank, Note note, std::string text) {
    Sending& sending = sending_.emplace_back(Sending{std::move(text), MPI_REQUEST_NULL});
    MPI_Isend(sending.text.data(), static_cast<int>(sending.text.size()), MPI_BYTE, rank, static_cast<int>(note),
              MPI_COMM_WORLD, &sending.request);
}

std::optional<Message> MpiMailbox::receive() {
    all_sent();
    int there = 0;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &there, &status);
    if (there == 0) {
        return std::nullopt;
    }
    int size = 0;
    MPI_Get_count(&status, MPI_BYTE, &size);
    Message message{status.MPI_SOURCE, static_cast<Note>(status.MPI_TAG),
                    std::string(static_cast<std::size_t>(size), '\0')};
    MPI_Recv(message.text.data(), size, MPI_BYTE, message.rank, status.MPI_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return message;
}

bool MpiMailbox::all_sent() {
    for (auto sending = sending_.begin(); sending != sending_.end();) {
        int sent = 0;
        MPI_Test(&sending->request, &sent, MPI_STATUS_IGNORE);
        sending = sent != 0 ? sending_.erase(sending) : std::next(sending);
    }
    return sending_.empty();
}

}  // namespace mobalab::experiments
