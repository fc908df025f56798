#include "experiments/trace/in_child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <string_view>

#include "experiments/base/interrupt.h"
#include "experiments/base/regular_file.h"

namespace mobalab::experiments {
namespace {

// An answer: 'y' (a result) or 'n' (a message), its length in 8 bytes, the text. One that is not whole is none.
constexpr std::size_t head_bytes = 1 + sizeof(std::uint64_t);

void limit(__rlimit_resource resource, std::uint64_t most) {
    rlimit present{};
    getrlimit(resource, &present);
    present.rlim_cur = std::min<rlim_t>(most, present.rlim_max);
    setrlimit(resource, &present);
}

/// Bytes of private memory this process has now (what RLIMIT_DATA counts); with sanitizers and CUDA far more than there
/// is.
std::uint64_t private_bytes() {
    std::ifstream file("/proc/self/statm");
    std::uint64_t pages = 0;
    for (int field = 0; field < 6; ++field) {
        file >> pages;
    }
    return file ? pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

void write_all(int to, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::write(to, bytes.data(), bytes.size());
        if (count < 0 && errno != EINTR) {
            return;  // the parent is gone, or gave up
        }
        bytes.remove_prefix(count < 0 ? 0 : static_cast<std::size_t>(count));
    }
}

/// Ends without running what the parent registered for its own end.
[[noreturn]] void be_the_child(int answer_to, std::int64_t processor_seconds,
                               const std::function<std::string()>& work) {
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGXCPU}) {
        std::signal(number, SIG_DFL);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, static_cast<std::uint64_t>(processor_seconds));
    if (const std::uint64_t present = private_bytes(); present > 0) {
        limit(RLIMIT_DATA, present + (std::uint64_t{4} << 30));
    }
    dup2(::open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
    std::string text;
    char kind = 'y';
    try {
        text = work();
    } catch (const std::exception& error) {
        kind = 'n';
        text = error.what();
    }
    const std::uint64_t length = text.size();
    std::array<char, head_bytes> head{kind};
    std::memcpy(head.data() + 1, &length, sizeof length);
    write_all(answer_to, {head.data(), head.size()});
    write_all(answer_to, text);
    ::_exit(0);
}

/// Everything that comes until the other end is closed.
std::string listen(int from, pid_t child) {
    constexpr int look_again_ms = 50;
    std::string answer;
    std::array<char, 1 << 16> buffer;
    for (;;) {
        pollfd stream{from, POLLIN, 0};
        const int ready = ::poll(&stream, 1, look_again_ms);
        if (interrupted()) {
            ::kill(child, SIGKILL);
        }
        if (ready <= 0) {
            continue;
        }
        const ssize_t count = ::read(from, buffer.data(), buffer.size());
        if (count == 0 || (count < 0 && errno != EINTR)) {
            return answer;
        }
        answer.append(buffer.data(), count < 0 ? 0 : static_cast<std::size_t>(count));
    }
}

std::string how_it_ended(int status, std::int64_t processor_seconds) {
    if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL)) {
        return fmt::format("takes more than {} s of processor time or 4 GiB of memory to read: it is damaged",
                           processor_seconds);
    }
    if (WIFSIGNALED(status)) {
        return fmt::format("crashes the library that reads it (signal {}): it is damaged", WTERMSIG(status));
    }
    return fmt::format("crashes the library that reads it (exit code {}): it is damaged", WEXITSTATUS(status));
}

}  // namespace

std::string in_child(const std::string& subject, std::int64_t processor_seconds,
                     const std::function<std::string()>& work) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        fail_file(subject, "no pipe to the process that reads it", errno);
    }
    const pid_t child = ::fork();
    if (child == 0) {
        be_the_child(ends[1], processor_seconds, work);
    }
    const int error = errno;
    ::close(ends[1]);
    if (child < 0) {
        ::close(ends[0]);
        fail_file(subject, "no process can be started that reads it", error);
    }
    std::string answer = listen(ends[0], child);
    ::close(ends[0]);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    stop_if_interrupted();
    std::uint64_t length = 0;
    if (answer.size() >= head_bytes) {
        std::memcpy(&length, answer.data() + 1, sizeof length);
    }
    if (answer.size() < head_bytes || answer.size() - head_bytes != length) {
        throw FileError(fmt::format("{}: {}", subject, how_it_ended(status, processor_seconds)));
    }
    const bool done = answer[0] == 'y';
    answer.erase(0, head_bytes);
    if (!done) {
        throw FileError(answer);
    }
    return answer;
}

}  // namespace mobalab::experiments
