#include <fmt/format.h>

#include "analysis/routing_point.h"
#include "experiments/base/interrupt.h"
#include "experiments/commands/python_program.h"
#include "experiments/commands/subcommands.h"

namespace mobalab::experiments {
namespace {

/// What the package is called with: the files, the folder and the options that were given.
std::vector<std::string> package_arguments(const Arguments& arguments) {
    std::vector<std::string> words;
    for (const char* name : {"out", "x", "colour", "panels", "where"}) {
        if (name == std::string("out") || arguments.given(name)) {
            words.push_back(fmt::format("--{}={}", name, arguments.text(name)));
        }
    }
    words.emplace_back("--");  // a file's name may begin with a dash
    for (std::string& path : arguments.lines("results")) {
        words.push_back(std::move(path));
    }
    return words;
}

int run_export(const Arguments& arguments, Terminal& terminal) {
    if (!arguments.given("results")) {
        throw analysis::InputError(
            "no results file: name one or several, as in mobalab export results.h5 --out figures");
    }
    for (const char* flag : {"results", "out"}) {
        if (arguments.text(flag).empty()) {
            throw analysis::InputError(fmt::format("{} = (nothing): must be a path, like {}", flag,
                                                   flag == std::string("out") ? "figures" : "results.h5"));
        }
    }
    const StopAdvice advice("each figure in " + arguments.text("out") + " is whole, the old one or the new one");
    std::vector<std::string> words = {"-m", "notebooks_export"};
    for (std::string& word : package_arguments(arguments)) {
        words.push_back(std::move(word));
    }
    // Once it writes it goes on to the end.
    const PythonEnd end = {{exit_ok}, "while drawing", "no figure was written"};
    return run_python(words, package_root("notebooks_export/__main__.py"), {}, end, terminal);
}

}  // namespace

Subcommand export_command() {
    return {
        "export",
        "figures (PNG, SVG), a notebook and an HTML page from results files",
        "Draws what the tables of results files allow: hit and miss probability along the axis that was swept, the "
        "pairwise formula against the exact one, hits by number of candidates, agreement, speed; of a real model "
        "recall "
        "head by head and against block size, predictions, where routed blocks lie, the frontier. The folder gets each "
        "figure as PNG and SVG, mobalab.ipynb, which draws them again from the files, and index.html, which needs no "
        "other file.\n"
        "\n"
        "An axis is a column of the file that a flag of the sweep set: head-dim, block-size, seq-len, candidates, "
        "topk, "
        "mu-signal, mu-noise, mu-cluster, cluster-size, needles, goal, key-correlation, key-conv, model, for "
        "benchmarks "
        "also measurement, batch, heads, dtype, threads; of a real model layer, head, trace, scorer, keep-first, "
        "router; "
        "and d/B, topk*block_size, file. Without --x, --colour and --panels the "
        "axis with most values runs along x (d and B as d/B), the others become colours and panels; what is then left "
        "out "
        "is printed and stands in the captions.\n"
        "\n"
        "--where is CONDITION [and CONDITION]..., a condition COLUMN = VALUE[,VALUE]... (or != for none of them, or "
        "<, <=, >, >= with one value). COLUMN is any column of the table. Several files are drawn together, each line "
        "with its file.\n"
        "\n"
        "Runs Python; the environment variable MOBALAB_PYTHON names one other than the one found when mobalab was "
        "built.",
        {{"results", "PATH", "", "results file; may be given without the flag's name, and more than one"},
         {"out", "DIR", "figures", "folder to write; made when missing, files of the same name are replaced"},
         {"x", "AXIS", "", "axis along x; without it the one with most values"},
         {"colour", "AXIS", "", "axis of the colours; at most 6 of its values are drawn"},
         {"panels", "AXES", "", "axes of the panels, separated by commas; at most 12 panels are drawn"},
         {"where", "CONDITIONS", "", "which rows to draw"}},
        {{"export results/validate.h5 --out results/figures", "every figure of a validation"},
         {"export sweep.h5 --x mu-signal --colour topk", "hits against the needle's affinity, a colour for each k"},
         {"export paper.h5 --where 'head_dim = 128 and topk in 4,8' --panels topk,cluster_size",
          "a part of a grid, a panel for each pair of k and m"},
         {"export cpu.h5 gpu.h5 --colour file", "two runs in one figure, told apart by colour"},
         {"export bench.h5 --out speed --x seq-len", "times along N, a panel for each measurement"}},
        "results",
        run_export,
        false,
        true};
}

}  // namespace mobalab::experiments
