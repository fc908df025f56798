#pragma once

#include <string>
#include <vector>

#include "experiments/base/terminal.h"

namespace mobalab::experiments {

/// The Python that runs parts of the program: MOBALAB_PYTHON of the environment, or the one found at build time.
std::string python_program();

/// Folder that holds `file` of the Python packages: what a Python wheel was unpacked to, where this is
/// mobalab/program/mobalab; `under` (empty: nothing) in share/mobalab beside the installed program or in the source
/// tree this program was built from. What was installed with a program comes first: it belongs to its build. Throws
/// FileError when it is in none of them.
std::string package_root(const std::string& file, const std::string& under = {});

/// How a run may end.
struct PythonEnd {
    std::vector<int> codes;  ///< beside exit_error
    std::string during;      ///< "while drawing"
    std::string left;        ///< what a signal left behind: "no figure was written"
};

/// Runs python_program() with `words`; `folder` comes first in its PYTHONPATH, `variables` ("NAME=value") are added to
/// its environment, its output is handed over as it comes. Returns its exit code: one of end.codes, or exit_error, of
/// which it has said the reason itself. Throws FileError with the way out when it cannot be started or ends with
/// another code, Interrupted when a signal ended it.
int run_python(const std::vector<std::string>& words, const std::string& folder,
               const std::vector<std::string>& variables, const PythonEnd& end, Terminal& terminal);

}  // namespace mobalab::experiments
