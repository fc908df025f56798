#include <fmt/format.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "analysis/routing_point.h"
#include "build_config.h"
#include "experiments/child_process.h"
#include "experiments/interrupt.h"
#include "experiments/results_file.h"
#include "experiments/subcommands.h"

namespace mobalab::experiments {
namespace {

std::string environment_or(const char* name, const std::string& otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? value : otherwise;
}

/// Folder that holds the Python package: the source tree this program was built from, or share/mobalab beside the
/// installed program.
std::string package_root() {
    std::error_code ignored;
    const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", ignored);
    const std::filesystem::path roots[] = {MOBALAB_SOURCE_DIR, program.parent_path().parent_path() / "share/mobalab"};
    for (const std::filesystem::path& root : roots) {
        if (std::filesystem::exists(root / "notebooks_export/__main__.py", ignored)) {
            return root.string();
        }
    }
    throw FileError(
        fmt::format("notebooks_export: the Python package is neither in {} nor in {}; put the source tree "
                    "back, or build or install again",
                    roots[0].string(), roots[1].string()));
}

int run_export(const Arguments& arguments, Terminal& terminal) {
    if (!arguments.given("results")) {
        throw analysis::InputError("no results file: name one, as in mobalab export results.h5 --out figures");
    }
    for (const char* flag : {"results", "out"}) {
        if (arguments.text(flag).empty()) {
            throw analysis::InputError(fmt::format("{} = (nothing): must be a path, like {}", flag,
                                                   flag == std::string("out") ? "figures" : "results.h5"));
        }
    }
    const std::string python = environment_or("MOBALAB_PYTHON", MOBALAB_PYTHON);
    const std::string inherited = environment_or("PYTHONPATH", "");
    const std::string path = package_root() + (inherited.empty() ? "" : ":" + inherited);
    const StopAdvice advice("each figure in " + arguments.text("out") + " is whole, the old one or the new one");
    int code = 0;
    try {
        code = run_child({python, "-m", "notebooks_export", arguments.text("results"), "--out", arguments.text("out")},
                         {"PYTHONPATH=" + path}, terminal);
    } catch (const std::system_error& error) {
        throw FileError(
            fmt::format("{}: cannot be started: {}; install the Debian package python3, or name another "
                        "Python in MOBALAB_PYTHON",
                        python, error.code().message()));
    }
    if (interrupted() && (code == 128 + SIGTERM || code == 128 + SIGINT)) {
        throw Interrupted("interrupted; no figure was written");  // once it writes it goes on to the end
    }
    if (code != exit_ok && code != exit_error) {  // exit_error has said why itself
        throw FileError(fmt::format("{}: ended with code {} while drawing", python, code));
    }
    return code;
}

}  // namespace

Subcommand export_command() {
    return {"export",
            "figures (PNG, SVG), a notebook and an HTML page from a results file",
            "Draws what the tables of a results file allow: hit and miss probability against d/B, the pairwise formula "
            "against the exact one, hits by number of candidates, agreement, speed. The folder gets each figure as PNG "
            "and SVG, mobalab.ipynb, which draws them again from the file, and index.html, which needs no other file.\n"
            "Runs Python; the environment variable MOBALAB_PYTHON names one other than the one found when mobalab was "
            "built.",
            {{"results", "PATH", "", "results file; may be given without the flag's name"},
             {"out", "DIR", "figures", "folder to write; made when missing, files of the same name are replaced"}},
            {{"export results/validate.h5 --out results/figures", "every figure of a validation"},
             {"export bench.h5 --out speed", "what a benchmark allows: one figure, notebook and page"}},
            "results",
            run_export};
}

}  // namespace mobalab::experiments
