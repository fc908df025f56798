#include <mpi.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <vector>

#include "experiments/base/build_info.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/this_rank.h"
#include "experiments/ranks/mpi_mailbox.h"
#include "experiments/ranks/rank_dealer.h"
#include "experiments/ranks/rank_helper.h"
#include "experiments/ranks/ranks.h"

namespace mobalab::experiments {
namespace {

/// mpirun and PMIx launchers (srun --mpi=pmix) name themselves in the environment.
bool started_as_rank() {
    const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
    return size != nullptr ? std::strcmp(size, "1") != 0 : std::getenv("PMIX_RANK") != nullptr;
}

/// Known before MPI_Init, in which a signal may come.
bool started_as_helper() {
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    rank = rank != nullptr ? rank : std::getenv("PMIX_RANK");
    return rank != nullptr && std::strcmp(rank, "0") != 0;
}

struct Neighbours {
    int local_rank;
    int cores;  ///< this rank's share
};

/// A core that k ranks of this host may run on counts 1/k for each of them, whatever mpirun has bound them to.
Neighbours look_around() {
    MPI_Comm host;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
    int local_rank = 0;
    int local_ranks = 1;
    MPI_Comm_rank(host, &local_rank);
    MPI_Comm_size(host, &local_ranks);
    cpu_set_t mine;
    CPU_ZERO(&mine);
    ::sched_getaffinity(0, sizeof mine, &mine);
    std::vector<cpu_set_t> all(static_cast<std::size_t>(local_ranks));
    MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all.data(), sizeof mine, MPI_BYTE, host);
    MPI_Comm_free(&host);
    double share = 0.0;
    for (int core = 0; core < CPU_SETSIZE; ++core) {
        if (CPU_ISSET(static_cast<std::size_t>(core), &mine)) {
            const auto users = std::count_if(all.begin(), all.end(), [core](const cpu_set_t& set) {
                return CPU_ISSET(static_cast<std::size_t>(core), &set);
            });
            share += 1.0 / static_cast<double>(users);
        }
    }
    return {local_rank, std::max(1, static_cast<int>(std::lround(share)))};
}

/// CUDA numbers the devices whose files it can see.
int cuda_devices_of_host() {
    int devices = 0;
    while (std::filesystem::exists("/dev/nvidia" + std::to_string(devices))) {
        ++devices;
    }
    return devices;
}

void choose_cuda_device(int local_rank) {
    const auto device = device_of_rank(std::getenv("CUDA_VISIBLE_DEVICES"), cuda_devices_of_host(), local_rank);
    if (device) {
        ::setenv("CUDA_VISIBLE_DEVICES", device->c_str(), 1);
    }
}

std::vector<RankPlace> places_of_all(int ranks) {
    struct Card {
        char host[256];
        char process_space[64];
        std::int64_t process;
    };
    Card mine{};
    ::gethostname(mine.host, sizeof mine.host - 1);
    if (::readlink("/proc/self/ns/pid", mine.process_space, sizeof mine.process_space - 1) < 0) {
        mine.process_space[0] = '\0';
    }
    mine.process = ::getpid();
    std::vector<Card> cards(static_cast<std::size_t>(ranks));
    MPI_Allgather(&mine, sizeof mine, MPI_BYTE, cards.data(), sizeof mine, MPI_BYTE, MPI_COMM_WORLD);
    std::vector<RankPlace> places;
    for (const Card& card : cards) {
        places.push_back({card.host, card.process_space, card.process});
    }
    return places;
}

/// Pieces travel as bytes of one build's making.
bool same_build_as_rank_0() {
    const std::string mine = build_info().version + " " + build_info().git_commit + " " + build_info().build;
    std::vector<char> first(4096, '\0');
    mine.copy(first.data(), first.size() - 1);
    MPI_Bcast(first.data(), static_cast<int>(first.size()), MPI_BYTE, 0, MPI_COMM_WORLD);
    return mine == first.data();
}

[[noreturn]] void end_at_once(int code) {
    std::cout.flush();
    std::cerr.flush();
    ::_exit(code);
}

int run_first_rank(const std::function<int(Terminal&)>& run, Terminal& terminal, std::vector<RankPlace> places) {
    MpiMailbox mailbox;
    RankDealer dealer(std::move(places), mailbox);
    set_work_dealer(&dealer);
    const int code = run(terminal);
    // MPI_Finalize would wait for a rank that is gone, and mpirun does not wait after a signal.
    if (interrupted() || !dealer.lost_rank().empty() || !dealer.dismiss()) {
        dealer.abort();
        end_at_once(code);
    }
    set_work_dealer(nullptr);
    return code;
}

/// "out of memory" of "mobalab simulate: error: out of memory\n".
std::string bare_error(const std::string& text) {
    const std::string mark = ": error: ";
    const std::size_t found = text.find(mark);
    const std::size_t start = found == std::string::npos ? 0 : found + mark.size();
    return text.substr(start, text.find('\n', start) - start);
}

void run_helper(const std::function<int(Terminal&)>& run) {
    MpiMailbox mailbox;
    RankHelper helper(mailbox);
    set_work_dealer(&helper);
    const bool same_build = same_build_as_rank_0();
    try {
        if (!same_build) {
            helper.fail("is another build of mobalab; install the same one on every host");
        } else {
            std::ostringstream out;
            std::ostringstream err;
            Terminal silent{out, err};
            if (run(silent) != exit_ok) {
                helper.fail(bare_error(err.str()));
            }
        }
        helper.wait_for_dismissal();
    } catch (const Dismissed&) {
        // rank 0 is done
    }
    helper.say_farewell();
    set_work_dealer(nullptr);
}

}  // namespace

int run_on_ranks(const std::function<int(Terminal&)>& run, Terminal& terminal) {
    if (!started_as_rank()) {
        return run(terminal);
    }
    if (started_as_helper()) {
        leave_the_last_word_to_rank_0();
    }
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);  // a rank that is gone is found in RankDealer::wait()
    int rank = 0;
    int ranks = 1;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    const Neighbours neighbours = look_around();
    choose_cuda_device(neighbours.local_rank);
    std::vector<RankPlace> places = places_of_all(ranks);
    this_rank() = {.ranks = ranks, .own_cores = neighbours.cores, .helps = rank != 0, .task = {}};
    int code = exit_ok;
    if (rank != 0) {
        run_helper(run);
    } else if (provided < MPI_THREAD_SERIALIZED) {
        terminal.err << "mobalab: error: this MPI allows no threads; use an MPI with MPI_THREAD_SERIALIZED\n";
        MPI_Abort(MPI_COMM_WORLD, exit_error);
    } else {
        same_build_as_rank_0();
        code = run_first_rank(run, terminal, std::move(places));
    }
    MPI_Finalize();
    return code;
}

}  // namespace mobalab::experiments
