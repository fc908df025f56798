#!/usr/bin/env python3
"""The arrows between rooms, read from the #include lines: each folder may use only what the table below lists.
And one definition of every type in one namespace, which all rooms share.

ARCHITECTURE.md draws the same picture. A file in a folder that the table does not know fails, so a new room gets its
line here. Standard, system and library headers (<...>) are not looked at, nor are generated ones.
"""

import re
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Room: the rooms it may include. A room may always include itself.
ARROWS = {
    "analysis": ["analysis/key_models", "analysis/scorers"],
    "analysis/key_models": [],
    "analysis/scorers": [],
    "analysis/measured_scores": ["analysis"],
    "kernels": ["kernels/scorers"],
    "kernels/scorers": [],
    "kernels/cpu": ["kernels", "kernels/scorers"],
    "kernels/examples": ["kernels", "kernels/c_api"],
    "kernels/c_api": ["kernels", "kernels/scorers"],
    "sim/streams": ["analysis"],
    "sim/tables": ["analysis", "sim/streams"],
    "sim/simd": ["analysis", "sim/streams", "sim/tables"],
    "sim/samplers": ["analysis", "sim/streams", "sim/tables", "sim/simd"],
    "sim/cuda": ["analysis", "sim/streams", "sim/tables", "sim/simd", "sim/samplers"],
    "sim/engine": ["analysis", "sim/streams", "sim/tables", "sim/simd", "sim/samplers", "sim/cuda"],
    "kernels/cuda/ptx": [],
    "kernels/cuda/tile": ["kernels", "kernels/cuda/ptx"],
    "kernels/cuda/host": ["kernels", "kernels/cuda/ptx", "kernels/cuda/tile"],
    "experiments/base": ["analysis", "kernels"],
    "experiments/cli": ["analysis", "experiments/base"],
    "experiments/results": ["analysis", "experiments/base"],
    "experiments/ranks": ["experiments/base"],
    "experiments/device": ["kernels", "experiments/base"],
    "experiments/trace": ["kernels", "experiments/base"],
    "experiments/points": ["analysis", "experiments/base", "experiments/cli", "experiments/results"],
}
for room, used in {"pooling": [], "routing": [], "lists": [], "forward": ["lists"],
                   "backward": ["lists", "forward"], "decode": ["pooling", "routing"]}.items():
    ARROWS[f"kernels/cuda/{room}"] = ["kernels", "kernels/cuda/ptx", "kernels/cuda/tile", "kernels/cuda/host"] + [
        f"kernels/cuda/{other}" for other in used]
for room in ("routing", "decode"):
    ARROWS[f"kernels/cuda/{room}"].append("kernels/scorers")  # hash_score.h, which host and device share
ARROWS["kernels/cuda/portable"] = [*ARROWS["kernels/cuda/backward"], "kernels/cuda/backward"]
ARROWS["kernels/cuda/portable/routing"] = [*ARROWS["kernels/cuda/routing"], "kernels/cuda/routing"]
for room in ("forward", "backward"):
    ARROWS[f"kernels/cuda/portable/{room}"] = [*ARROWS["kernels/cuda/portable"], "kernels/cuda/portable"]
SIM = [room for room in ARROWS if room.startswith("sim/")]
WORK = ["analysis", "kernels", *SIM, "experiments/base", "experiments/results", "experiments/ranks"]
ARROWS["experiments/probe"] = [*WORK, "experiments/device"]
ARROWS["experiments/simulation"] = WORK
ARROWS["experiments/measure"] = ["analysis", "kernels", "experiments/base", "experiments/results", "experiments/device",
                                 "experiments/trace", "experiments/measure/routers"]
ARROWS["experiments/measure/routers"] = []
ARROWS["experiments/measure/cuda"] = [*ARROWS["experiments/measure"], "experiments/measure", "kernels/cuda/ptx",
                                      "kernels/cuda/tile"]
ARROWS["experiments/bench"] = [*WORK, "experiments/device", "experiments/points"]
ARROWS["experiments/advise"] = ["analysis", "experiments/base", "experiments/results"]
ARROWS["experiments/predict"] = ["analysis", "analysis/measured_scores", "kernels", "experiments/base",
                                 "experiments/results", "experiments/trace", "experiments/measure"]
ARROWS["experiments/trained"] = ["analysis", "analysis/measured_scores", "experiments/base", "experiments/results",
                                 "experiments/trace"]
ARROWS["experiments/commands"] = [*WORK] + [room for room in ARROWS if room.startswith("experiments/")]
ARROWS["experiments"] = ["experiments/base", "experiments/ranks", "experiments/commands"]  # main.cc

# Files that join rooms: tables of a backend name every operation of it, its limits ask the lists', and a tensor of
# normals is filled by the fastest loop this processor has.
JOINTS = {
    **{str(path.relative_to(ROOT)): [room] for room, files in (
        ("analysis", "scorers"), ("analysis", "key_models"), ("kernels", "scorers"), ("experiments/measure", "routers"))
       for path in (ROOT / room / files).glob("*.cc")},
    "kernels/cuda/host/limits.cc": ["kernels/cuda/lists"],
    "sim/streams/gaussian.cc": ["sim/simd"],
    "kernels/cuda/host/backend.cu": [f"kernels/cuda/{room}" for room in ("pooling", "routing", "forward", "backward", "decode")],
    "kernels/cuda/host/hopper_path_table.cc": [
        f"kernels/cuda/{room}" for room in ("routing", "forward", "backward", "portable/routing")],
    "kernels/cuda/portable/path_table.cc": ["kernels/cuda/portable/routing"],
}


def sources():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"], text=True,
                            capture_output=True, check=False)
    names = listed.stdout.split("\n") if listed.returncode == 0 else [
        str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    return [name for name in names if re.search(r"\.(h|cc|cu|cuh)$", name)
            and re.match(r"(analysis|sim|kernels|experiments)/", name) and (ROOT / name).exists()]


def includes(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r'^#include "((?:analysis|sim|kernels|experiments)/[^"]+)"', text, re.M)


def room_of(name):
    return name.rsplit("/", 1)[0]


def broken_arrows(files, includes_of):
    """Lines about includes that the table does not allow."""
    lines = []
    for name in files:
        room = room_of(name)
        if room not in ARROWS:
            lines.append(f"{name}: {room}/ is in no line of ARROWS")
            continue
        allowed = {room, *ARROWS[room], *JOINTS.get(name, [])}
        lines += [f"{name}: {room}/ may not include {used}" for used in includes_of(name)
                  if room_of(used) not in allowed]
    return lines


def types_of(text):
    """Types that a file defines in named namespaces, with their namespace; what an anonymous one holds is its own."""
    open_namespaces, types = [], set()
    for line in text.split("\n"):
        if begins := re.match(r"namespace ?([\w:]*) ?\{", line):
            open_namespaces.append(begins[1])
        elif line.startswith("}  // namespace"):
            open_namespaces.pop()
        elif (defined := re.match(r"(?:struct|class|enum class) (\w+)(?: final)?(?: :[^;]*)? \{", line)) and all(
                open_namespaces):
            types.add("::".join([*open_namespaces, defined[1]]))
    return types


def twice_defined(types_by_file):
    """Lines about types of one name in several files; twins that stand in for each other (*_none.cc) are one."""
    homes = {}
    for name, types in types_by_file.items():
        for defined in types:
            homes.setdefault(defined, {})[re.sub(r"(_none)?\.\w+$", "", name)] = name
    return [f"{defined}: {', '.join(sorted(files.values()))}" for defined, files in sorted(homes.items()) if len(files) > 1]


class Rooms(unittest.TestCase):
    def test_a_type_has_one_definition(self):
        """Two are linked as one, without a word: destructors of one then run on the other."""
        self.assertEqual(twice_defined({name: types_of((ROOT / name).read_text(encoding="utf-8")) for name in sources()}), [])

    def test_a_second_definition_is_found(self):
        header = "namespace mobalab::x {\nstruct Same {\n    int i;\n};\n}  // namespace mobalab::x\n"
        hidden = "namespace mobalab::x {\nnamespace {\nclass Same final : Base {\n}  // namespace\n}  // namespace mobalab::x\n"
        found = {"x/a.h": types_of(header), "y/b.h": types_of(header), "y/c.cc": types_of(hidden)}
        self.assertEqual(twice_defined(found), ["mobalab::x::Same: x/a.h, y/b.h"])
        self.assertEqual(twice_defined({"x/a.cc": types_of(header), "x/a_none.cc": types_of(header)}), [])

    def test_includes_follow_the_arrows(self):
        files = sources()
        self.assertGreater(len(files), 300)
        self.assertEqual(broken_arrows(files, includes), [])

    def test_every_included_file_exists(self):
        missing = [f"{name}: {used}" for name in sources() for used in includes(name) if not (ROOT / used).exists()]
        self.assertEqual(missing, [])

    def test_the_table_has_no_circle(self):
        done, open_rooms = set(), []

        def visit(room):
            self.assertNotIn(room, open_rooms, " -> ".join([*open_rooms, room]))
            if room not in done:
                open_rooms.append(room)
                for used in ARROWS[room]:
                    visit(used)
                open_rooms.pop()
                done.add(room)

        for room in ARROWS:
            visit(room)

    def test_a_wrong_arrow_is_found(self):
        wrong = {"experiments/base/values.h": ["experiments/cli/cli.h"], "experiments/attic/old.cc": []}
        self.assertEqual(len(broken_arrows(wrong, wrong.get)), 2)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--list":  # what breaks the table now, for people who move walls
        print("\n".join(broken_arrows(sources(), includes)))
    else:
        unittest.main()
