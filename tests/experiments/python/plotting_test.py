"""plot and figures draw what `mobalab export` draws: plotting_test.py PATH_OF_MOBALAB."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from with_program import PROGRAM, ROOT, error_of

import mobalab


class Figures(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def exported(self, paths, *options):
        """{figure: its SVG} of the program."""
        out = self.folder / "figures"
        subprocess.run([PROGRAM, "export", *map(str, paths), "--out", out, *options], check=True, capture_output=True,
                       env=dict(os.environ, MOBALAB_PYTHON=sys.executable))  # the same matplotlib
        found = {path.stem: path.read_bytes() for path in out.glob("*.svg")}
        for path in out.iterdir():
            path.unlink()
        return found

    def assert_same(self, drawn, exported):
        self.assertTrue(exported)
        self.assertEqual(set(drawn), set(exported))
        for name, plot in drawn.items():
            self.assertTrue(plot.svg() == exported[name], f"{name} is drawn in other bytes")

    def test_datasets_files_and_export_draw_the_same(self):
        a, b = self.folder / "a.h5", self.folder / "b.h5"
        theory = mobalab.theory(head_dim=[64, 128], block_size="16:64:x2", topk=[4, 8], out=a)
        wanted = self.exported([a])
        self.assert_same(mobalab.figures(theory), wanted)
        self.assert_same(mobalab.figures(a), wanted)
        mobalab.theory(head_dim=[32], block_size="16:64:x2", out=b)
        self.assert_same(mobalab.figures(a, b, colour="file"), self.exported([a, b], "--colour", "file"))

    def test_validate_and_measure(self):
        a, b = self.folder / "a.h5", self.folder / "b.h5"
        found = mobalab.validate(head_dim=32, seq_len="1K", topk=[2, 4], probes=2048, trials=2000, out=a)
        # The figure of agreement calls the file by its name.
        drawn, wanted = mobalab.figures(found), self.exported([a])
        self.assertIn("agreement", drawn)
        self.assertEqual(set(drawn), set(wanted))
        for name in set(drawn) - {"agreement"}:
            self.assertTrue(drawn[name].svg() == wanted[name], name)
        measured = mobalab.measure(ROOT / "experiments/traces/smollm2_small.safetensors", block_size=[16, 32],
                                   scorer="mean,quest", out=b)
        self.assert_same(mobalab.figures(measured), self.exported([b]))

    def test_axes_and_filter(self):
        path = self.folder / "a.h5"
        run = mobalab.simulate(head_dim=[64, 128], topk=[2, 4, 8], mu_signal=[0.5, 0.7], trials=1000, out=path)
        for asked, words in ((dict(x="mu-signal", colour="topk"), ["--x", "mu-signal", "--colour", "topk"]),
                             (dict(panels="topk"), ["--panels", "topk"]),
                             (dict(filter="topk in 2,8 and d = 64"), ["--where", "topk in 2,8 and d = 64"]),
                             (dict(filter={"topk": [2, 8], "head_dim": 64}), ["--where", "topk in 2,8 and d = 64"])):
            with self.subTest(asked=asked):
                self.assert_same(mobalab.figures(run, **asked), self.exported([path], *words))

    def test_a_part_of_a_dataset_is_what_is_drawn(self):
        path = self.folder / "a.h5"
        run = mobalab.simulate(head_dim=[64, 128], topk=[2, 4, 8], trials=1000, out=path)
        part = mobalab.plot(run.isel(point=[0, 1, 2]))
        self.assertTrue(part.svg() == mobalab.plot(path, filter="head_dim = 64").svg())
        self.assertFalse(part.svg() == mobalab.plot(run).svg())

    def test_a_plot(self):
        plot = mobalab.plot(mobalab.theory(topk=[2, 4]), figure="miss_probability")
        self.assertEqual(plot.name, "miss_probability")
        self.assertEqual(plot._repr_png_()[:4], b"\x89PNG")
        self.assertIn(plot.caption, repr(plot))

    def test_each_common_mean_is_a_point_of_its_own(self):
        caption = mobalab.plot(mobalab.theory(head_dim=[32, 64, 128], shared_mean=[0, 10])).caption
        self.assertIn("all 6 points", caption)
        self.assertIn("shared_mean (0, 10)", caption)

    def test_errors(self):
        run = mobalab.theory(topk=[2, 4])
        self.assertIn("figure = miss: is no figure; there are", error_of(mobalab.plot, run, figure="miss"))
        self.assertIn("figure = agreement: cannot be drawn", error_of(mobalab.plot, run, figure="agreement"))
        self.assertIn("x = topq: is no axis", error_of(mobalab.plot, run, x="topq"))
        self.assertIn("leaves no row", error_of(mobalab.plot, run, filter={"topk": 3}))
        self.assertIn("filter = 3: must be", error_of(mobalab.plot, run, filter=3))
        self.assertIn("give a dataset or the path", error_of(mobalab.plot))
        self.assertIn("int is no result", error_of(mobalab.plot, 3))
        self.assertIn("no.h5: no such file", error_of(mobalab.plot, "no.h5"))
        self.assertIn("miss_probability", error_of(mobalab.plot, run.drop_vars("miss_probability")))


if __name__ == "__main__":
    unittest.main()
