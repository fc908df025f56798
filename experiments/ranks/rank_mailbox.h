#pragma once

#include <optional>
#include <string>

namespace mobalab::experiments {

/// What ranks say to each other.
enum class Note : int {
    begin,    ///< rank 0: the next section; text: what must be the same on every rank
    ready,    ///< helper: in that section; text: its threads
    request,  ///< rank 0: slot and piece
    reply,    ///< helper: slot and result
    failure,  ///< helper: cannot go on; text: why
    quit,     ///< rank 0: no more work; the helper answers farewell
    abort,    ///< rank 0: the run is broken off; the helper ends at once
    farewell  ///< helper: its last note
};

struct Message {
    int rank;
    Note note;
    std::string text;
};

/// Messages of one rank, none of which waits for the other side. To be used by one thread.
class RankMailbox {
public:
    virtual ~RankMailbox() = default;

    virtual void post(int rank, Note note, std::string text) = 0;

    /// A message that has come, if one has. Also moves the posted ones on.
    virtual std::optional<Message> receive() = 0;

    virtual bool all_sent() = 0;
};

}  // namespace mobalab::experiments
