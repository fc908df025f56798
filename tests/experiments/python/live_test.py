"""Live statistics and progress: live_test.py PATH_OF_MOBALAB."""

import io
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import with_program

import mobalab
from mobalab import progress


class Live(unittest.TestCase):
    def test_ends_with_what_simulate_gives(self):
        asked = dict(head_dim=[32, 64], candidates=30, trials=50_000, seed=3)
        *before, last = mobalab.iter_simulate(**asked)
        plain = mobalab.simulate(**asked)
        self.assertEqual(last.points, tuple(mobalab.statistics(plain)))
        self.assertTrue(last.result.drop_attrs().identical(plain.drop_attrs()) if hasattr(plain, "drop_attrs") else
                        last.result.equals(plain))
        self.assertEqual(last.fraction, 1.0)
        counted = [0, 0]
        for live in before:
            self.assertIsNone(live.result)
            for place, one in enumerate(live.points):
                self.assertGreaterEqual(one.trials, counted[place])
                self.assertEqual(one.trials > counted[place], place in live.changed)
                counted[place] = one.trials

    def test_goes_on_until_the_loop_is_left(self):
        """A run that would take years yields, grows, stops in order, and goes on from its file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.h5"
            trials = []
            for again in (False, True):
                seen = 0
                for live in mobalab.iter_simulate(head_dim=32, candidates=30, trials=2**52, out=path, resume=again):
                    self.assertGreater(live.points[0].trials, trials[-1] if trials else 0)
                    trials.append(live.points[0].trials)
                    self.assertEqual(live.points[0].streams[0][:2], (1, trials[-1]))
                    self.assertLess(live.points[0].interval().low, live.points[0].miss)
                    seen += 1
                    if seen == 3:
                        break
                self.assertEqual(os.listdir(folder), ["a.h5.journal"])

    def test_rules_are_part_of_what_adds(self):
        live = list(mobalab.iter_simulate(head_dim=32, candidates=30, trials="1e6", max_misses="1K", seed=1))[-1].points[0]
        other = mobalab.statistics(mobalab.simulate(head_dim=32, candidates=30, trials="1e6", max_misses=1024, seed=2))[0]
        self.assertEqual((live + other).misses, live.misses + other.misses)
        self.assertIn(("max-misses", "1K"), live.identity)

    def test_rules_in_points_are_rules(self):
        asked = {"head_dim": 32, "candidates": 30, "trials": 50_000, "max_misses": 100}
        *_, last = mobalab.iter_simulate(asked, seed=1)
        self.assertIn(("max-misses", "100"), last.points[0].identity)
        self.assertEqual(last.points, tuple(mobalab.statistics(mobalab.simulate(asked, seed=1))))

    def test_a_rule_that_is_no_number_is_the_programs_error(self):
        with self.assertRaisesRegex(mobalab.MobalabError, "^max-misses = 1k: must be a whole number"):
            list(mobalab.iter_simulate(max_misses="1k"))

    def test_methods_that_count_nothing(self):
        *_, last = mobalab.iter_simulate(head_dim=2048, block_size=16, target_relative_error=0.3)
        self.assertEqual(last.points, (None,))
        self.assertGreater(float(last.result.miss.values[0]), 0.0)

    def test_errors(self):
        with self.assertRaisesRegex(mobalab.MobalabError, "^topk = 500 .* nearest valid: 128$"):
            list(mobalab.iter_simulate(topk=500))
        with self.assertRaisesRegex(mobalab.MobalabError, "no argument of simulate"):
            list(mobalab.iter_simulate(dtype="bf16"))


class TheOption(unittest.TestCase):
    def test_a_file_does_not_know_who_watched(self):
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for watched in ([], ["--json-progress"]):
                path = Path(folder) / "a.h5"
                subprocess.run([with_program.PROGRAM, "simulate", "--trials", "1000", "--out", path, *watched], check=True,
                               capture_output=True, env=dict(os.environ, SOURCE_DATE_EPOCH="1000000000"))
                files.append(path.read_bytes())
                path.unlink()
            self.assertEqual(*files)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Display(unittest.TestCase):
    EVENT = {"progress": 0.25, "text": "point 1 of 4", "seconds": 20.0, "seconds_left": 60.0}

    def setUp(self):
        self.now = 0.0

    def test_a_function_is_told(self):
        told = []
        mobalab.simulate(head_dim=[32, 64], candidates=30, trials=2000, progress=lambda *where: told.append(where))
        self.assertEqual([text for share, text in told if share == 1.0][-1][:14], "point 2 of 2: ")
        self.assertEqual(sorted(share for share, _ in told), [share for share, _ in told])

    def test_a_terminal_gets_one_line_that_is_cleared(self):
        file = Terminal()
        line = progress.Line("simulate", file, lambda: self.now)
        line.update(self.EVENT)
        self.assertEqual(file.getvalue(), "")  # a short run shows nothing
        self.now = 0.6
        line.update({"rows": []})
        line.update(self.EVENT)
        self.assertEqual(file.getvalue(), f"\rsimulate [{'#' * 6}{' ' * 18}] 25 %, point 1 of 4, 1 min 0 s left")
        self.now = 0.65
        line.update(self.EVENT)
        line.close()
        self.assertEqual(file.getvalue().count("\r"), 3)
        self.assertNotIn("\n", file.getvalue())

    def test_a_log_gets_a_line_now_and_then(self):
        file = io.StringIO()
        line = progress.Line("simulate", file, lambda: self.now)
        for self.now in (0.6, 5.0, 10.0, 11.0):
            line.update(dict(self.EVENT, seconds_left=None))
        line.close()
        self.assertEqual(file.getvalue(), f"simulate [{'#' * 6}{' ' * 18}] 25 %, point 1 of 4\n" * 2)

    def test_a_notebook_gets_a_bar(self):
        shown = []
        bar = progress.Bar("simulate", lambda *what: shown.append(what), lambda: self.now)
        for self.now in (0.0, 0.6, 0.65, 0.8):
            bar.update(dict(self.EVENT, text="a < b"))
        bar.close()
        self.assertEqual([update for _, _, update in shown], [False, True, True])
        self.assertEqual(len({name for _, name, _ in shown}), 1)
        self.assertIn('<progress value="0.2500" max="1"></progress> 25 %, a &lt; b, 1 min 0 s left', shown[0][0])
        self.assertEqual(shown[-1][0], "")

    def test_who_is_shown_what(self):
        self.assertIs(type(progress.display_of("simulate", False)), progress.Display)
        self.assertIs(type(progress.display_of("simulate", True)), progress.Line)

    def test_durations(self):
        self.assertEqual([progress.duration(seconds) for seconds in (0.2, 59.6, 200, 7500)],
                         ["0 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"])


if __name__ == "__main__":
    unittest.main()
