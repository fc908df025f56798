#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "analysis/routing_point.h"
#include "experiments/base/interrupt.h"
#include "experiments/commands/python_program.h"
#include "experiments/commands/subcommands.h"

namespace mobalab::experiments {
namespace {

/// What Python runs. A package that does not import is an error of one line and no failed check, which has exit code 1.
constexpr const char* launcher =
    "import sys\n"
    "try:\n"
    "    from mobalab_kernels.audit.__main__ import entry\n"
    "except ImportError as failed:\n"
    "    print(f'mobalab audit: error: {sys.executable}: {failed}; install NumPy for it (Debian package "
    "python3-numpy), or name another Python in MOBALAB_PYTHON', file=sys.stderr)\n"
    "    sys.exit(2)\n"
    "sys.exit(entry(sys.argv[1:]))\n";

/// Their rules are the package's, which knows what they ask of each other.
constexpr const char* numbers[] = {"seq-len", "heads", "heads-k", "head-dim", "block-size", "topk", "seed"};

std::vector<std::string> audit_arguments(const Arguments& arguments) {
    std::vector<std::string> words;
    for (const char* name : {"out", "replay", "only", "arrays", "device", "dtype"}) {
        if (arguments.given(name)) {
            words.push_back(fmt::format("--{}={}", name, arguments.text(name)));
        }
    }
    for (const char* name : numbers) {
        if (arguments.given(name)) {
            words.push_back(
                fmt::format("--{}={}", name, arguments.integer(name, std::numeric_limits<std::int64_t>::min())));
        }
    }
    words.emplace_back("--");
    words.push_back(arguments.text("subject"));
    return words;
}

/// What the package finds beside this program, unless the user names another: the kernels' library, and the program
/// itself, which knows the theory.
std::vector<std::string> neighbours() {
    std::error_code ignored;
    const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", ignored);
    const std::pair<const char*, std::filesystem::path> files[] = {
        {"MOBALAB_KERNELS_LIBRARY", program.parent_path().parent_path() / "lib/libmobalab_kernels.so"},
        {"MOBALAB_PROGRAM", program}};
    std::vector<std::string> variables;
    for (const auto& [name, file] : files) {
        const char* named = std::getenv(name);
        if ((named == nullptr || *named == '\0') && std::filesystem::exists(file, ignored)) {
            variables.push_back(fmt::format("{}={}", name, file.string()));
        }
    }
    return variables;
}

int run_audit(const Arguments& arguments, Terminal& terminal) {
    if (arguments.text("subject").empty()) {
        throw analysis::InputError(
            "no subject: name ours, ours_centred, flash_moba or MODULE:NAME, as in mobalab audit my_router:route");
    }
    const StopAdvice advice("each file in " + arguments.text("out") + " is whole, the old one or the new one");
    std::vector<std::string> words = {"-c", launcher};
    for (std::string& word : audit_arguments(arguments)) {
        words.push_back(std::move(word));
    }
    const std::string root = package_root("mobalab_kernels/audit/__main__.py", "kernels/python");
    const PythonEnd end = {{exit_ok, exit_disagree}, "during the audit", "no result was written"};
    return run_python(words, root, neighbours(), end, terminal);
}

}  // namespace

Subcommand audit_command() {
    return {
        "audit",
        "any router or MoBA attention through the checks that ours must pass",
        "The subject is ours (the kernels of this project), ours_centred (the same with the mean of block 0 subtracted "
        "from "
        "centroids before they are rounded), flash_moba (the official package) or MODULE:NAME, a Python "
        "function or object of the user's own: route(q, k, block_size, topk), attention(q, k, v, block_size, topk), "
        "summaries, gradients; kernels/python/mobalab_kernels/audit/README.md has the contract. It is held against "
        "float64: centroids, the top-k with the score gap of every difference, ties, causality, NaN and infinity, "
        "repeats, packed sequences, outputs, gradients, hits on planted needles. How many rows the format of centroids "
        "changes is reported beside what theory expects, and not judged. What a subject does not offer is said, and is "
        "never a success.\n"
        "\n"
        "The folder gets results.json, index.html and worst/, the worst input of each check; --replay runs one of them "
        "again. Exit code 1 when a check failed.\n"
        "\n"
        "Runs Python with NumPy, and with torch for --arrays torch; the environment variable MOBALAB_PYTHON names one "
        "other than the one found when mobalab was built.",
        {{"subject", "NAME", "", "ours, ours_centred, flash_moba or MODULE:NAME; may be given without the flag's name"},
         {"out", "DIR", "audit", "folder to write; made when missing, files of the same name are replaced"},
         {"replay", "FILE", "", "run one input again that an audit wrote; writes nothing"},
         {"only", "CHECKS", "", "checks to run, such as top-k,repeats; without it all"},
         {"arrays", "KIND", "numpy", "what the subject gets: numpy or torch"},
         {"device", "NAME", "cpu", "of torch tensors, such as cuda"},
         {"dtype", "NAME", "float32", "float32, bfloat16 (torch only) or float16"},
         {"seq-len", "N", "2048", "tokens of most inputs"},
         {"heads", "N", "4", "query heads"},
         {"heads-k", "N", "2", "key heads"},
         {"head-dim", "N", "64", "channels of a head"},
         {"block-size", "N", "64", "keys of a block"},
         {"topk", "K", "4", "blocks a row keeps, its own included"},
         {"seed", "N", "1", "of every draw"}},
        {{"audit ours --dtype float16", "the CPU kernels on NumPy arrays"},
         {"audit ours --arrays torch --device cuda --dtype bfloat16 --seq-len 16K --head-dim 128 --block-size 128",
          "the CUDA kernels; MOBALAB_PYTHON names a Python with torch"},
         {"audit flash_moba --arrays torch --device cuda --dtype bfloat16 --heads-k 4 --seq-len 16K",
          "the official kernel"},
         {"audit my_router:route --out my_audit", "a function route of my_router.py in this folder"},
         {"audit my_router:route --replay my_audit/worst/ties.npz", "its worst input of one check again"}},
        "subject",
        run_audit};
}

}  // namespace mobalab::experiments
