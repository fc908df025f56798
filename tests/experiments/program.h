#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/experiments/captured.h"

extern char** environ;

namespace mobalab::experiments {

/// A running program; stdout goes nowhere, stderr to a file.
class Program {
public:
    /// args[0] is looked for on PATH.
    Program(std::vector<std::string> args, const std::string& log) {
        std::vector<char*> pointers;
        for (std::string& arg : args) {
            pointers.push_back(arg.data());
        }
        pointers.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        const int error = ::posix_spawnp(&child_, pointers[0], &actions, nullptr, pointers.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        if (error != 0) {
            throw std::runtime_error("cannot run " + args[0]);
        }
    }

    pid_t process() const { return child_; }
    void send(int signal) const { ::kill(child_, signal); }

    /// Exit code, or minus the signal that ended it.
    int wait() const {
        int status = 0;
        ::waitpid(child_, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }

    /// Processes it started that are called `name`.
    std::vector<pid_t> children(const std::string& name) const {
        std::vector<pid_t> found;
        DIR* folder = ::opendir("/proc");
        for (const dirent* entry = ::readdir(folder); entry != nullptr; entry = ::readdir(folder)) {
            std::ifstream file(std::string("/proc/") + entry->d_name + "/stat");
            pid_t process = 0;
            pid_t parent = 0;
            std::string called;
            std::string state;
            if (file >> process >> called >> state >> parent && parent == child_ && called == "(" + name + ")") {
                found.push_back(process);
            }
        }
        ::closedir(folder);
        std::sort(found.begin(), found.end());
        return found;
    }

private:
    pid_t child_ = 0;
};

/// Gone, or waiting to be buried by whoever inherited it.
inline bool has_ended(pid_t process) {
    std::ifstream file("/proc/" + std::to_string(process) + "/stat");
    std::string number;
    std::string called;
    std::string state;
    return !(file >> number >> called >> state) || state == "Z";
}

/// The program under test with the flags of `line`.
inline std::vector<std::string> mobalab_command(const std::string& line) {
    std::vector<std::string> args = words(line);
    args.insert(args.begin(), MOBALAB_PROGRAM);
    return args;
}

/// Waits until something is so, two minutes at most; false when it still is not.
[[nodiscard]] inline bool wait_until(const std::function<bool()>& so) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (!so()) {
        if (std::chrono::steady_clock::now() > give_up) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

/// Processor time of all programs waited for so far: what a run costs, and so the least it takes on one thread,
/// whatever else this machine does meanwhile.
inline double seconds_of_programs() {
    struct rusage usage {};
    ::getrusage(RUSAGE_CHILDREN, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// How many trials make the simulation of `line` cost at least so much processor time here: samplers, machines and
/// sanitizers differ a hundredfold.
inline std::int64_t trials_that_cost(double seconds, const std::string& line, const std::string& log) {
    for (std::int64_t trials = 2000;; trials *= 3) {
        const double before = seconds_of_programs();
        if (Program(mobalab_command(line + " --trials " + std::to_string(trials)), log).wait() != 0) {
            throw std::runtime_error(slurp(log));
        }
        if (seconds_of_programs() - before >= seconds) {
            return trials;
        }
    }
}

}  // namespace mobalab::experiments
