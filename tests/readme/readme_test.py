"""Everything the READMEs for users tell a reader to type works, and prints what it says.

Usage: readme_test.py PROGRAM [--update]

Fenced blocks, by language, in order and in one folder per document, which holds `experiments` and `notebooks_export` as
a clone does and else nothing:
  console   lines "$ command" are run; the lines below each are its output. Numbers agree within 2 %; a line "..."
            stands for any lines; no output shown means any output. With --update the outputs shown are
            replaced by those of the program.
  python    run as one script, with the package mobalab on PYTHONPATH
  sh        set-up and scripts of the repository: checked to exist, not run here
Links to files of the repository are checked to exist, in every README.
"""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ""
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")


ROOTS = [ROOT / name for name in ("analysis", "sim", "kernels", "experiments", "notebooks_export", "tests")]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "experiments/commands/README.md",
                                      "experiments/results/README.md", "experiments/python/README.md")]


def blocks(document):
    """(language, text) of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


def commands(text):
    """(command, expected output lines) of a console block."""
    pairs = []
    for line in text.splitlines():
        if line.startswith("$ "):
            pairs.append((line[2:], []))
        elif pairs and pairs[-1][0].endswith("\\"):
            pairs[-1] = (pairs[-1][0][:-1] + line.strip(), [])
        else:
            pairs[-1][1].append(line)
    return pairs


def shell(command, folder):
    """Exit code and stdout of a command, `mobalab` being the program under test."""
    environment = dict(os.environ, PATH=f"{Path(PROGRAM).parent}:{os.environ['PATH']}", LC_ALL="C.UTF-8",
                       MOBALAB_PROGRAM=os.path.abspath(PROGRAM), PYTHONPATH=str(ROOT / "experiments" / "python"))
    ran = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, timeout=300)
    return ran.returncode, ran.stdout, ran.stderr


@contextlib.contextmanager
def clone():
    """A folder to type commands in."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("experiments", "notebooks_export"):
            os.symlink(ROOT / name, Path(folder) / name)
        yield folder


def same_line(shown, printed):
    """Equal but for spacing and the last digits of numbers."""
    words, numbers = NUMBER.sub("#", shown).split(), NUMBER.findall(shown)
    others, values = NUMBER.sub("#", printed).split(), NUMBER.findall(printed)
    return words == others and len(numbers) == len(values) and all(
        abs(float(a) - float(b)) <= 0.02 * max(abs(float(a)), abs(float(b))) for a, b in zip(numbers, values))


def same_output(shown, printed):
    """Line by line; "..." skips to the next line that fits."""
    if not shown:
        return True
    if shown[0] == "...":
        return any(same_output(shown[1:], printed[i:]) for i in range(len(printed) + 1)) if shown[1:] else True
    return bool(printed) and same_line(shown[0], printed[0]) and (
        same_output(shown[1:], printed[1:]) if shown[1:] else not printed[1:])


class Readme(unittest.TestCase):
    def test_commands_print_what_is_shown(self):
        seen = sum(self._run(document) for document in DOCUMENTS)
        self.assertGreater(seen, 15)

    def _run(self, document):
        """The number of commands run."""
        seen = 0
        with clone() as folder:
            for language, text in blocks(document):
                if language == "python":
                    code, out, err = shell(f"{shlex.quote(sys.executable)} - <<'END'\n{text}\nEND", folder)
                    self.assertEqual(code, 0, f"{text}\n{out}{err}")
                for command, shown in commands(text) if language == "console" else ():
                    seen += 1
                    with self.subTest(document=document.name, command=command):
                        code, out, err = shell(command, folder)
                        self.assertEqual(code, 0, err)
                        printed = [line for line in out.splitlines() if line.strip()]
                        shown = [line for line in shown if line.strip()]
                        self.assertTrue(same_output(shown, printed), f"README shows\n{shown}\nprinted was\n{out}")
        return seen

    def test_every_command_of_the_program_is_shown(self):
        text = (ROOT / "experiments/commands/README.md").read_text()
        _, out, _ = shell("mobalab --help", ROOT)
        names = re.findall(r"^  ([a-z]+) ", out.split("Commands:")[1], re.MULTILINE)
        self.assertGreaterEqual(len(names), 6)
        for name in names:
            self.assertRegex(text, rf"\$ mobalab {name}\b")

    def test_scripts_and_presets_exist(self):
        presets = {preset["name"] for preset in json.loads((ROOT / "CMakePresets.json").read_text())["buildPresets"]}
        lines = [line for document in DOCUMENTS for language, text in blocks(document) if language == "sh"
                 for line in text.splitlines() if line]
        for line in lines:
            words = shlex.split(line, comments=True)
            if words[0] in ("cmake", "ctest"):
                self.assertIn(words[words.index("--preset") + 1], presets)
            else:
                self.assertTrue(os.access(ROOT / words[0], os.X_OK), line)

    def test_blocks_have_a_language_this_test_knows(self):
        known = {"console", "python", "sh", "text", "cpp"}
        self.assertTrue({language for document in DOCUMENTS for language, _ in blocks(document)} <= known)

    def test_links_lead_somewhere(self):
        documents = {*DOCUMENTS, ROOT / "ARCHITECTURE.md", *(path for room in ROOTS for path in room.rglob("*.md"))}
        self.assertGreater(len(documents), 12)
        for document in documents:
            for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text()):
                with self.subTest(document=str(document), link=link):
                    self.assertTrue((document.parent / link).exists())


class Comparison(unittest.TestCase):
    """The comparison itself: a README that is wrong must fail."""

    def test_tells_outputs_apart(self):
        self.assertTrue(same_output(["a  1.00 b"], ["a 1.01 b"]))
        self.assertTrue(same_output(["a", "...", "z"], ["a", "b", "c", "z"]))
        for shown, printed in ((["a 1"], ["a 1.1"]), (["a 1"], ["b 1"]), (["a"], ["a", "b"]), (["a", "b"], ["a"]),
                               (["a", "...", "z"], ["a", "b"]), (["1 2"], ["1"])):
            self.assertFalse(same_output(shown, printed), (shown, printed))

    def test_commands_of_a_block(self):
        self.assertEqual(commands("$ a \\\n    b\nout\n$ c\n"), [("a b", ["out"]), ("c", [])])


def update():
    """Rewrites the outputs shown with what the program prints now; those with "..." are kept."""
    for document in DOCUMENTS:
        readme = document.read_text()
        with clone() as folder:
            for language, text in blocks(document):
                if language == "console":
                    shown = [(command, lines, shell(command, folder)[1]) for command, lines in commands(text)]
                    new = "".join(f"$ {command}\n" + ("\n".join(lines) + "\n" if "..." in lines else printed)
                                  for command, lines, printed in shown)
                    readme = readme.replace(f"```console\n{text}```", f"```console\n{new}```")
        document.write_text(readme)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    if "--update" in sys.argv:
        update()
    else:
        unittest.main()
