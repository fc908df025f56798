#include "experiments/commands/python_program.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "experiments/base/build_info.h"
#include "experiments/base/child_process.h"
#include "experiments/base/interrupt.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {
namespace {

std::string environment_or(const char* name, const std::string& otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? value : otherwise;
}

int run_in_child(const std::vector<std::string>& words, const std::string& folder,
                 const std::vector<std::string>& variables, Terminal& terminal) {
    const std::string python = python_program();
    const std::string inherited = environment_or("PYTHONPATH", "");
    std::vector<std::string> call = {python};
    call.insert(call.end(), words.begin(), words.end());
    std::vector<std::string> environment = variables;
    environment.push_back("PYTHONPATH=" + folder + (inherited.empty() ? "" : ":" + inherited));
    try {
        return run_child(call, environment, terminal);
    } catch (const std::system_error& error) {
        throw FileError(
            fmt::format("{}: cannot be started: {}; install the Debian package python3, or name another Python in "
                        "MOBALAB_PYTHON",
                        python, error.code().message()));
    }
}

}  // namespace

std::string python_program() {
    return environment_or("MOBALAB_PYTHON", build_info().python);
}

std::string package_root(const std::string& file, const std::string& under) {
    std::error_code ignored;
    const std::filesystem::path above =
        std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path().parent_path();
    const auto in = [&under](const std::filesystem::path& root) { return under.empty() ? root : root / under; };
    const std::filesystem::path roots[] = {above.parent_path(), in(above / "share/mobalab"),
                                           in(build_info().source_dir)};
    for (const std::filesystem::path& root : roots) {
        if (std::filesystem::exists(root / file, ignored)) {
            return root.string();
        }
    }
    throw FileError(fmt::format(
        "{}: the Python package is neither in {} nor in {} nor in {}; put the source tree back, or build or "
        "install again",
        file, roots[0].string(), roots[1].string(), roots[2].string()));
}

int run_python(const std::vector<std::string>& words, const std::string& folder,
               const std::vector<std::string>& variables, const PythonEnd& end, Terminal& terminal) {
    const int code = run_in_child(words, folder, variables, terminal);
    if (interrupted() && (code == 128 + SIGTERM || code == 128 + SIGINT)) {
        throw Interrupted("interrupted; " + end.left);
    }
    if (code != exit_error && std::ranges::find(end.codes, code) == end.codes.end()) {
        throw FileError(fmt::format("{}: ended with code {} {}", python_program(), code, end.during));
    }
    return code;
}

}  // namespace mobalab::experiments
