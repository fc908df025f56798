#include "experiments/base/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <ostream>
#include <string_view>
#include <system_error>
#include <utility>

#include "experiments/base/interrupt.h"

namespace mobalab::experiments {
namespace {

[[noreturn]] void fail(int code, const std::string& what) {
    throw std::system_error(code, std::generic_category(), what);
}

/// A pipe whose ends close themselves and do not leak into other children.
class Pipe {
public:
    Pipe() {
        if (pipe2(ends_.data(), O_CLOEXEC) != 0) {
            fail(errno, "pipe");
        }
    }
    ~Pipe() {
        close_end(0);
        close_end(1);
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;

    int read_end() const { return ends_[0]; }
    int write_end() const { return ends_[1]; }
    void close_end(std::size_t end) {
        if (ends_[end] >= 0) {
            close(std::exchange(ends_[end], -1));
        }
    }

private:
    std::array<int, 2> ends_{-1, -1};
};

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> result;
    result.reserve(texts.size() + 1);
    for (std::string& text : texts) {
        result.push_back(text.data());
    }
    result.push_back(nullptr);
    return result;
}

std::string_view name_of(std::string_view variable) {
    return variable.substr(0, variable.find('='));
}

std::vector<std::string> environment_with(const std::vector<std::string>& variables) {
    std::vector<std::string> all = variables;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        bool replaced = false;
        for (const std::string& variable : variables) {
            replaced = replaced || name_of(variable) == name_of(*entry);
        }
        if (!replaced) {
            all.emplace_back(*entry);
        }
    }
    return all;
}

pid_t spawn(std::vector<std::string> arguments, std::vector<std::string> environment, const Pipe& out,
            const Pipe& err) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out.write_end(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err.write_end(), STDERR_FILENO);
    // Ctrl-C reaches the child too. It waits until the child asks for it: Python would answer with a traceback while
    // it starts. SIGTERM comes from pass_on_both().
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &blocked);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t child = 0;
    const int code = posix_spawnp(&child, arguments[0].c_str(), &actions, &attributes, pointers(arguments).data(),
                                  pointers(environment).data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (code != 0) {
        fail(code, arguments[0]);
    }
    return child;
}

/// Passes on what is there; false at the end of the stream.
bool pass_on(int from, std::ostream& to) {
    std::array<char, 4096> buffer;
    const ssize_t size = read(from, buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) {
        return true;
    }
    if (size > 0) {
        to.write(buffer.data(), size).flush();
    }
    return size > 0;
}

/// Until the child has ended or closed both. A signal that comes meanwhile is passed on to it once.
void pass_on_both(pid_t child, int out, int err, Terminal& terminal) {
    constexpr int look_again_ms = 50;
    std::array<pollfd, 2> streams{{{out, POLLIN, 0}, {err, POLLIN, 0}}};
    bool told = false;
    while (streams[0].fd >= 0 || streams[1].fd >= 0) {  // poll() skips negative descriptors
        const int ready = poll(streams.data(), streams.size(), look_again_ms);
        if (interrupted() && !std::exchange(told, true)) {
            kill(child, SIGTERM);
        }
        for (pollfd& stream : streams) {
            std::ostream& to = stream.fd == out ? terminal.out : terminal.err;
            if (ready > 0 && stream.fd >= 0 && stream.revents != 0 && !pass_on(stream.fd, to)) {
                stream.fd = -1;
            }
        }
    }
}

}  // namespace

int run_child(const std::vector<std::string>& arguments, const std::vector<std::string>& variables,
              Terminal& terminal) {
    Pipe out;
    Pipe err;
    const pid_t child = spawn(arguments, environment_with(variables), out, err);
    out.close_end(1);
    err.close_end(1);
    pass_on_both(child, out.read_end(), err.read_end(), terminal);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace mobalab::experiments
