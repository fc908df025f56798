"""Whatever axis a sweep varies is drawn: which axis is x, which makes colours and panels, and what is said of the rest."""

import re
import subprocess
import sys
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import synthetic_results  # noqa: E402
from in_folder import InFolder  # noqa: E402
from notebooks_export import notebook  # noqa: E402
from notebooks_export.figures import FIGURES  # noqa: E402
from notebooks_export.layout import MAX_COLOURS, MAX_PANELS, NoData  # noqa: E402
from notebooks_export.results import ExportError  # noqa: E402
from notebooks_export.study import file_labels, open_study  # noqa: E402

SPECS = {figure.name: figure for figure in FIGURES}
MUS = tuple(round(0.1 * step, 1) for step in range(1, 10))
PLAIN = dict(head_dims=(128,), block_sizes=(64,), seq_lens=(8192,), topks=(8,), clusters=((1, 0.0),), mus=(0.8,))


class Sweeps(InFolder):
    def write(self, columns=None, name="sweep.h5", groups=("theory",), **grid):
        columns = synthetic_results.grid(**{**PLAIN, **grid}) if columns is None else columns
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        return synthetic_results.write_results(path, columns, groups=groups)

    def draw(self, paths, name="hit_probability", **options):
        return SPECS[name].draw(open_study(paths, **options))

    def curves(self, drawing):
        """The x values of each exact curve, panel by panel: what a reader sees, not what the layout says."""
        return [[sorted({round(float(x), 9) for line in axis.lines if line.get_color() == colour
                         and line.get_marker() in (".", "_") for x in line.get_xdata()})
                 for colour in dict.fromkeys(line.get_color() for line in axis.lines)]
                for axis in drawing.picture.axes]

    def assert_x(self, drawing, label, values):
        for axis in drawing.picture.axes:
            for curve in self.curves(drawing)[drawing.picture.axes.index(axis)]:
                np.testing.assert_allclose(curve, values)
        self.assertIn(label, drawing.picture.axes[-1].get_xlabel())

    def legend(self, drawing):
        texts = [text.get_text() for axis in drawing.picture.axes if axis.get_legend() for text in
                 axis.get_legend().get_texts()]
        return [text for text in texts if not text.startswith(("exact", "simulation", "real", "no miss"))]


class OneAxis(Sweeps):
    def test_the_swept_axis_runs_along_x(self):
        for grid, label, values in (
                (dict(mus=MUS), "mu_{signal}", MUS), (dict(topks=(2, 4, 8, 16)), "k", (2, 4, 8, 16)),
                (dict(seq_lens=(8192, 16384, 32768)), "N", (8192, 16384, 32768)),
                (dict(clusters=((1, 0.2), (2, 0.2), (4, 0.2), (8, 0.2))), "m", (1, 2, 4, 8)),
                (dict(clusters=((4, 0.0), (4, 0.2), (4, 0.4))), "mu_{cluster}", (0.0, 0.2, 0.4)),
                (dict(head_dims=(32, 64, 128)), "d / B", (0.5, 1.0, 2.0)),
                (dict(block_sizes=(32, 64, 128)), "d / B", (1.0, 2.0, 4.0))):
            with self.subTest(label):
                drawing = self.draw(self.write(**grid))
                self.assert_x(drawing, label, values)
                self.assertEqual((drawing.left_out, len(drawing.picture.axes)), ("", 1))
                self.assertIn(f"all {len(values)} points", drawing.drawn)

    def with_column(self, name, values, text=False, **others):
        plain = synthetic_results.grid(**PLAIN)
        columns = {key: np.concatenate([np.asarray(value)] * len(values)) for key, value in plain.items()}
        columns[name] = np.array(values, dtype=object if text else None)
        for key, value in others.items():
            columns[key] = np.array([value] * len(values))
        columns["miss_probability"] = np.linspace(0.2, 0.8, len(values))
        columns["log_miss_probability"] = np.log(columns["miss_probability"])
        return self.write(columns)

    def test_columns_that_only_some_files_have(self):
        for name, values, label in (("needles", (1, 2, 4), "R"), ("key_correlation", (0.0, 0.1, 0.2), "rho"),
                                    ("key_conv", (0, 3, 4), "W"), ("mu_noise", (0.0, 0.1, 0.2), "mu_{noise}")):
            with self.subTest(name):
                self.assert_x(self.draw(self.with_column(name, values)), label, values)

    def test_words_stand_beside_each_other(self):
        for name, values, more in (("model", ("gaussian", "gaussian-fixed", "sphere"), {}),
                                   ("goal", ("each", "any", "all"), {"needles": 4})):
            with self.subTest(name):
                drawing = self.draw(self.with_column(name, values, text=True, **more))
                axis = drawing.picture.axes[0]
                self.assertEqual([tick.get_text() for tick in axis.get_xticklabels()], list(values))
                self.assertEqual(self.curves(drawing), [[[0.0, 1.0, 2.0]]])
                self.assertEqual(drawing.left_out, "")

    def test_goal_of_one_needle_means_nothing(self):
        drawing = self.draw(self.with_column("goal", ("each", "any", "all"), text=True, needles=1), x="mu-signal")
        self.assertIn("Drawn once: 2 points", drawing.left_out)

    def test_one_point_says_its_value(self):
        path = self.write()
        drawing = self.draw(path)
        hit = 1.0 - open_study(path).points["miss_probability"].iloc[0]
        self.assertIn(f"{hit:.3g}", [text.get_text() for text in drawing.picture.axes[0].texts])
        self.assertIn("one point", drawing.drawn)

    def test_hundreds_of_points_are_one_line(self):
        drawing = self.draw(self.write(mus=tuple(np.linspace(0.01, 0.99, 300).round(6))))
        (line,) = [line for line in drawing.picture.axes[0].lines if len(line.get_xdata())]
        self.assertEqual((line.get_xdata()[0], line.get_xdata()[-1]), (0.01, 0.99))
        self.assertLess(len(drawing.picture.axes[0].get_xticks()), 12)


class SeveralAxes(Sweeps):
    def test_the_others_become_colours_and_panels(self):
        drawing = self.draw(self.write(mus=MUS, topks=(2, 4, 8), seq_lens=(8192, 32768)))
        self.assert_x(drawing, "mu_{signal}", MUS)
        self.assertEqual(self.legend(drawing), ["k = 2", "k = 4", "k = 8"])
        self.assertEqual([axis.get_title(loc="left") for axis in drawing.picture.axes], ["N = 8K", "N = 32K"])
        self.assertEqual((drawing.left_out, [len(panel) for panel in self.curves(drawing)]), ("", [3, 3]))

    def test_what_is_left_out_is_said_value_by_value(self):
        drawing = self.draw(self.write(mus=(0.2, 0.5, 0.8), topks=(2, 4, 8), seq_lens=(8192, 16384, 32768),
                                       head_dims=(32, 64, 128, 256), block_sizes=(16, 32, 64, 128)))
        study = drawing.layout
        shown, total = len(study.rows), len(study.points)
        self.assertEqual(total, 3 * 3 * 3 * 16)
        self.assertIn(f"Left out: {total - shown} of {total} points", drawing.left_out)
        for symbol, column in (("N", "seq_len"), ("k", "topk"), ("mu_signal", "mu_signal")):
            missing = sorted(set(study.points[column]) - set(study.rows[column]))
            for value in missing:
                words = f"{value // 1024}K" if column == "seq_len" else f"{value:g}"
                self.assertRegex(drawing.left_out, rf"\b{symbol} = [^;:]*\b{re.escape(words)}\b")
            self.assertEqual(f"{symbol} = " in drawing.left_out, bool(missing))

    def test_too_many_colours_and_panels_are_thinned_and_said(self):
        drawing = self.draw(self.write(mus=MUS, topks=tuple(range(2, 10)), seq_lens=tuple(2**e for e in range(13, 20))),
                            x="mu", colour="k", panels="N")
        self.assertEqual(len(self.legend(drawing)), MAX_COLOURS)
        self.assertEqual(len(drawing.picture.axes), 7)
        self.assertRegex(drawing.left_out, r"k = \d, \d ")
        chosen = self.draw(self.write(mus=MUS, topks=tuple(range(2, 10)), seq_lens=tuple(2**e for e in range(13, 20))))
        self.assertLessEqual(len(chosen.picture.axes), MAX_PANELS)

    def test_a_needle_alone_is_one_curve_whatever_its_cluster(self):
        drawing = self.draw(self.write(mus=MUS, clusters=((1, 0.2), (1, 0.4), (4, 0.2), (4, 0.4))))
        self.assertEqual(len(self.curves(drawing)[0]) * len(drawing.picture.axes), 3)
        self.assertIn("Drawn once: 9 points", drawing.left_out)
        self.assertTrue(any("m = 1" in words and "cluster" not in words for words in self.legend(drawing)
                            + [axis.get_title(loc="left") for axis in drawing.picture.axes]))

    def test_a_budget_makes_no_panels_of_k(self):
        whole = synthetic_results.grid(**{**PLAIN, "block_sizes": (32, 64, 128), "topks": (4, 8, 16, 32)})
        for budgets in ((512,), (512, 1024)):
            with self.subTest(budgets):
                kept = np.isin(whole["block_size"] * whole["topk"], budgets)
                drawing = self.draw(self.write({name: values[kept] for name, values in whole.items()}))
                self.assertEqual((len(drawing.picture.axes), len(self.curves(drawing)[0])), (1, len(budgets)))
                for curve in self.curves(drawing)[0]:
                    self.assertEqual(curve, [1.0, 2.0, 4.0])
                self.assertIn("k goes with", drawing.drawn)
                self.assertEqual(drawing.left_out, "")

    def test_points_of_no_grid_are_listed_one_by_one(self):
        whole = synthetic_results.grid(**{**PLAIN, "head_dims": (32, 64, 128), "topks": (2, 4, 8), "mus": (0.2, 0.5, 0.8),
                                          "seq_lens": (8192, 16384, 32768)})
        kept = [0, 14, 22, 31, 44, 50, 61, 69, 77]
        drawing = self.draw(self.write({name: values[kept] for name, values in whole.items()}))
        self.assertEqual(drawing.left_out, "")
        self.assertIn(f"all {len(kept)} points", drawing.drawn)


class Asked(Sweeps):
    def setUp(self):
        super().setUp()
        self.path = self.write(mus=(0.2, 0.5, 0.8), topks=(2, 4, 8), head_dims=(64, 128), block_sizes=(32, 64))

    def test_x_colour_and_panels(self):
        drawing = self.draw(self.path, x="topk", colour="mu-signal", panels="head_dim,B")
        self.assert_x(drawing, "k", (2, 4, 8))
        self.assertEqual(len(self.legend(drawing)), 3)
        self.assertEqual([axis.get_title(loc="left") for axis in drawing.picture.axes],
                         ["d = 64, B = 32", "d = 64, B = 64", "d = 128, B = 32", "d = 128, B = 64"])

    def test_where_narrows_every_figure_and_says_so(self):
        study = open_study(self.path, where="head_dim = 128 and topk in 4,8")
        self.assertEqual(set(study.points["topk"]), {4, 8})
        for name in ("hit_probability", "miss_probability", "pairwise_formula"):
            drawing = SPECS[name].draw(study)
            self.assertIn("keeps 12 of 36 points", drawing.drawn)
            if drawing.layout is not None:
                self.assertEqual(set(drawing.layout.rows["head_dim"]), {128})

    def assert_refused(self, *words, path=None, **options):
        with self.assertRaises(ExportError) as refused:
            open_study(path or self.path, **options)
        self.assertEqual(len(str(refused.exception).splitlines()), 1)
        for word in words:
            self.assertIn(word, str(refused.exception))

    def test_bad_options_name_the_nearest_valid_choice(self):
        self.assert_refused("x = topkk", "nearest valid: topk", x="topkk")
        self.assert_refused("colour = needles", "not in the files", "topk", colour="needles")
        self.assert_refused("panels = (nothing)", panels="")
        self.assert_refused("colour = topk", "--x", x="topk", colour="k")
        self.assert_refused("panels = topk", "--colour", colour="k", panels="mu,topk")

    def test_bad_where_names_column_rule_and_nearest(self):
        for where, words in (("tokp = 4", ("no column tokp", "nearest valid: topk")), ("topk", ("is no condition",)),
                             ("topk = 5", ("topk = 5 leaves no row", "2 or 4 or 8", "nearest valid: topk = 4")),
                             ("topk > 8", ("leaves no row", "nearest valid: topk = 8")),
                             ("topk = 4 and head_dim = 64 and mu = 0.9", ("mu_signal = 0.9", "nearest valid: mu_signal = 0.8")),
                             ("model = spher", ("nearest valid: sphere",)), ("model < 3", ("words",)),
                             ("topk = four", ("'four' is none",)), ("topk > 2,4", ("takes one value",)), ("", ("nothing",)),
                             ("topk = 4 or topk = 8", ("is none",)), ("topk =", ("lacks a value",)),
                             ("topk = nan", ("is none",)), ("__class__ = 1", ("no column",))):
            with self.subTest(where):
                self.assert_refused(*words, where=where)

    def test_where_finds_what_it_says(self):
        for where, rows in (("topk=4", 12), ("k = 4", 12), ("topk != 4", 24), ("topk not in 2,4", 12), ("topk < 4", 12),
                            ("topk <= 4 AND mu-signal >= 0.5", 16), ("block_size in [32, 64]", 36), ("d/B > 2", 9),
                            ("head_dim = 1e2 or 1", None), ("mu_signal = 0.5", 12), ("model = sphere and seq_len = 8K", 36),
                            ("miss_probability < 2", 36), ("file = sweep.h5", 36)):
            with self.subTest(where):
                if rows is None:
                    self.assert_refused("where", where=where)
                else:
                    self.assertEqual(len(open_study(self.path, where=where).points), rows)

    def test_the_one_estimate_of_a_table_needs_no_prefix(self):
        path = self.write(mus=(0.2, 0.5, 0.8), groups=("simulate",), name="simulate.h5")
        self.assertEqual(len(open_study(path, where="trials = 20000 and low > 0 and high < 2").points), 3)
        both = self.write(mus=(0.2,), groups=("validate",), name="validate.h5")
        self.assert_refused("no column trials", path=both, where="trials = 20000")

    def test_a_range_and_a_list_write_the_same_number(self):
        path = self.write(mus=(0.1, 0.1 + 0.1 + 0.1), name="range.h5")
        self.assertEqual(len(open_study(path, where="mu = 0.3").points), 1)
        self.assertEqual(len(open_study(path, where="mu <= 0.3").points), 2)
        self.assertEqual(len(open_study(path, where="mu < 0.3").points), 1)

    def test_a_file_without_rows(self):
        columns = {name: values[:0] for name, values in synthetic_results.grid(**PLAIN).items()}
        import h5py
        path = self.folder / "empty.h5"
        with h5py.File(path, "w") as file:
            file.attrs["schema"], file.attrs["schema_version"] = "mobalab results", 1
            synthetic_results.write_table(file, "theory", columns, "point")
        self.assert_refused("empty.h5", "no row", path=path)


class SeveralFiles(Sweeps):
    def test_each_line_is_named_by_its_file(self):
        paths = [self.write(name="a/run.h5", mus=MUS), self.write(name="b/run.h5", mus=MUS, groups=("simulate",))]
        drawing = self.draw(paths)
        self.assertEqual(self.legend(drawing), ["a/run.h5", "b/run.h5"])
        self.assertIn("file (a/run.h5, b/run.h5)", drawing.drawn)

    def test_files_that_differ_in_one_axis_are_named_beside_it(self):
        paths = [self.write(name=f"k{k}.h5", mus=MUS, topks=(k,)) for k in (4, 8)]
        drawing = self.draw(paths)
        self.assertEqual(self.legend(drawing), ["k = 4, k4.h5", "k = 8, k8.h5"])

    def test_no_curve_joins_points_of_two_files(self):
        paths = [self.write(name="short.h5", seq_lens=(8192, 16384)), self.write(name="long.h5", seq_lens=(32768, 65536))]
        drawing = self.draw(paths)
        self.assertEqual(self.curves(drawing), [[[8192.0, 16384.0], [32768.0, 65536.0]]])

    def test_different_commands_and_missing_columns(self):
        plain = synthetic_results.grid(**{**PLAIN, "mus": (0.2, 0.5, 0.8)})
        needles = {**plain, "needles": np.array([2, 2, 2]), "goal": np.array(["any"] * 3, dtype=object)}
        paths = [self.write(plain, name="plain.h5"), self.write(needles, name="needles.h5", groups=("validate",)),
                 self.write(name="bench.h5", groups=("bench",))]
        study = open_study(paths)
        self.assertEqual(sorted(study.points["needles"]), [1, 1, 1, 2, 2, 2])
        for name in ("hit_probability", "miss_probability", "pairwise_formula", "hits_by_candidates", "speed"):
            SPECS[name].draw(study)
        self.assertEqual(set(SPECS["hits_by_candidates"].draw(study).layout.rows["file"]), {"needles.h5"})

    def test_the_same_file_twice_is_refused(self):
        path = self.write()
        with self.assertRaisesRegex(ExportError, "given twice"):
            open_study([path, self.folder / "." / "sweep.h5"])

    def test_labels_are_the_shortest_that_differ(self):
        self.assertEqual(file_labels(["/x/a.h5"]), ["a.h5"])
        self.assertEqual(file_labels(["/x/1/a.h5", "/x/2/a.h5", "/x/2/b.h5"]), ["1/a.h5", "2/a.h5", "b.h5"])


class Captions(Sweeps):
    def test_values_said_are_the_values_drawn(self):
        """No figure may speak of points that it does not draw: each caption is read again and held against the lines."""
        path = self.write(mus=(0.4, 0.9), topks=(2, 8), seq_lens=(8192, 32768), head_dims=(32, 128),
                          block_sizes=(16, 64, 256), groups=("validate",))
        for name in ("hit_probability", "miss_probability"):
            drawing = self.draw(path, name)
            xs = np.concatenate([line.get_xdata() for axis in drawing.picture.axes for line in axis.lines])
            low, high = re.search(r"x is d/B from ([\d.]+) to ([\d.]+)", drawing.drawn).groups()
            self.assertEqual((float(low), float(high)), (xs.min(), xs.max()))
            for symbol, column in (("N", "seq_len"), ("k", "topk"), ("mu_signal", "mu_signal")):
                held = re.search(rf"fixed:.*\b{symbol} = (\d+(?:\.\d+)?)(K?)", drawing.drawn)
                if held:
                    value = float(held.group(1)) * (1024 if held.group(2) else 1)
                    self.assertEqual(set(drawing.layout.rows[column]), {value})
            shown, total = re.search(r"Drawn: (\d+) of (\d+) points", drawing.drawn).groups()
            dots = sum(len(line.get_xdata()) for axis in drawing.picture.axes for line in axis.lines
                       if line.get_marker() == "o" and len(line.get_xdata()))
            limits = sum(len(line.get_xdata()) for axis in drawing.picture.axes for line in axis.lines
                         if line.get_marker() == "v")
            self.assertEqual(int(total), 2 * 2 * 2 * 2 * 3)
            if name == "hit_probability":
                self.assertEqual((dots, limits), (int(shown), 0))

    def test_no_sentence_claims_what_other_files_need_not_hold(self):
        text = " ".join(figure.text + figure.title for figure in FIGURES)
        for claim in ("same slice", "the other side", "to the right", "vary most", "d/B"):
            self.assertNotIn(claim, text)
        theory = self.draw(self.write(mus=MUS)).caption
        for absent in ("Circles", "Squares", "triangle", "dotted"):
            self.assertNotIn(absent, theory)

    def test_pairwise_title_counts_the_points(self):
        drawing = self.draw(self.write(mus=MUS, topks=(2, 64)), "pairwise_formula")
        said = re.search(r"at (\d+) of (\d+) points", drawing.picture.axes[0].get_title(loc="left")).groups()
        points = open_study(self.folder / "sweep.h5").points
        above = np.sum(1.0 - points["pairwise_miss"] > 1.0 - points["miss_probability"])
        self.assertEqual(said, (str(above), "18"))


class Rare(Sweeps):
    def with_miss(self, misses):
        columns = synthetic_results.grid(**{**PLAIN, "mus": MUS[:len(misses)]})
        columns["miss_probability"] = np.array(misses)
        with np.errstate(divide="ignore"):
            columns["log_miss_probability"] = np.log(columns["miss_probability"])
        return self.write(columns)

    def test_tiny_probabilities_are_in_the_picture(self):
        for misses in ([1e-12, 2e-12, 5e-12], [0.5, 1e-6, 1e-24], [1.0, 1.0, 0.999]):
            with self.subTest(misses):
                low, high = self.draw(self.with_miss(misses), "miss_probability").picture.axes[0].get_ylim()
                self.assertTrue(low < min(misses) and max(misses) < high, (low, high))

    def test_certain_hits_are_said_to_have_no_line(self):
        drawing = self.draw(self.with_miss([0.0, 0.3, 0.0]), "miss_probability")
        self.assertIn("At 2 of 3 points every candidate is routed", drawing.caption)
        curve = self.draw(self.with_miss([0.0, 0.5]), "hit_probability").picture.axes[0].lines[0]
        np.testing.assert_allclose(np.interp(0.15, curve.get_xdata(), curve.get_ydata()), 0.75, atol=1e-9)

    def test_a_simulation_that_counts_no_misses_is_drawn_with_its_interval(self):
        import h5py
        path = self.write(mus=(0.5, 0.8), groups=("simulate",))
        with h5py.File(path, "a") as file:
            table = file["simulate"]
            low, high = np.array([1e-12, 2e-12]), np.array([3e-12, 4e-12])
            table["sim_miss_low"][:], table["sim_miss"][:], table["sim_miss_high"][:] = low, (low + high) / 2, high
            table["sim_misses"][:] = -1
            table["sim_misses"].attrs["_FillValue"] = np.int64(-1)
        axis = self.draw(path, "miss_probability").picture.axes[0]
        dots = np.concatenate([line.get_ydata() for line in axis.lines if line.get_marker() == "o"])
        np.testing.assert_allclose(dots, (low + high) / 2)
        self.assertLess(axis.get_ylim()[0], 1e-12)

    def test_curves_on_one_another_are_ribbons(self):
        plain = synthetic_results.grid(**{**PLAIN, "mus": MUS})
        columns = {name: np.concatenate([values, values]) for name, values in plain.items()}
        columns["model"] = np.array(["gaussian"] * 9 + ["sphere"] * 9, dtype=object)
        lines = self.draw(self.write(columns)).picture.axes[0].lines
        widths = {line.get_color(): line.get_linewidth() for line in lines if line.get_linestyle() == "-"}
        self.assertEqual(sorted(widths.values()), [1.6, 4.0])


class Benchmarks(Sweeps):
    def sweep(self):
        import h5py
        one = synthetic_results.bench()
        table = {name: np.concatenate([values] * 3) for name, values in one.items()}
        table["seq_len"], table["head_dim"] = np.repeat([2048, 4096, 8192], 4), np.full(12, 64)
        path = self.folder / "bench.h5"
        with h5py.File(path, "w") as file:
            file.attrs["schema"], file.attrs["schema_version"] = "mobalab results", 1
            synthetic_results.write_table(file, "bench", table, "measurement")
        return path

    def test_a_sweep_has_a_panel_for_each_measurement(self):
        drawing = self.draw(self.sweep(), "speed")
        self.assertEqual([axis.get_title(loc="left") for axis in drawing.picture.axes],
                         ["route", "attention forward", "attention backward", "gemm"])
        for axis in drawing.picture.axes:
            self.assertEqual(sorted(axis.lines[0].get_xdata()), [2048, 4096, 8192])
        self.assertEqual(drawing.left_out, "")

    def test_one_shape_is_a_list(self):
        drawing = self.draw(self.write(groups=("bench",)), "speed")
        self.assertEqual(len(drawing.picture.axes[0].get_yticklabels()), 4)


class Solved(Sweeps):
    def test_the_answer_is_drawn_along_the_sweep(self):
        import h5py
        columns = synthetic_results.grid(**{**PLAIN, "head_dims": (64, 128, 256)})
        columns["block_size"] = np.array([10, 20, 40])
        columns["reached"] = np.array(["no", "yes", "yes"], dtype=object)
        path = self.write(columns)
        with self.assertRaises(NoData):
            self.draw(self.write(columns={n: v for n, v in columns.items() if n != "reached"}, name="plain.h5"), "solved")
        with h5py.File(path, "a") as file:
            file.attrs["settings"] = "head-dim=64,128,256 solve=block-size wanted-hit=0.99"
        drawing = self.draw(path, "solved")
        axis = drawing.picture.axes[0]
        self.assertIn("block size B", axis.get_ylabel())
        np.testing.assert_array_equal(axis.lines[0].get_xdata(), [64, 128, 256])
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), [np.nan, 20, 40])
        np.testing.assert_array_equal(axis.lines[1].get_ydata(), [10])
        self.assertIn("0.99; no value does at 1 of 3 points", drawing.caption)


class NotebookOptions(Sweeps):
    def test_the_notebook_draws_with_the_same_options(self):
        path = self.write(mus=(0.2, 0.8), topks=(2, 8))
        study = open_study([path], x="topk", where='mu = 0.8 and model = "sphere"')
        book = notebook.build(study, [(SPECS["hit_probability"], 0)], self.folder).decode()
        self.assertIn('x=\\"topk\\"', book)
        import nbformat
        cells = [cell.source for cell in nbformat.reads(book, as_version=4).cells if cell.cell_type == "code"]
        setup = cells[0].replace("%matplotlib inline", "").replace("from IPython.display import Markdown, display",
                                                                  "display = Markdown = lambda shown: print(shown)")
        script = f"{setup}\n{cells[1]}\nprint('points', len(study.points), study.view.x.name)"
        ran = subprocess.run([sys.executable, "-c", script], cwd=self.folder, capture_output=True, text=True, timeout=120)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertIn("points 2 topk", ran.stdout)
        self.assertIn(SPECS["hit_probability"].draw(study).caption, ran.stdout)


if __name__ == "__main__":
    unittest.main()
