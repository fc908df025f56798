"""Figures of a real model: what stands in the picture is what stands in the file, and what cannot be drawn is said."""

import contextlib
import io
import itertools
import subprocess
import sys
import unittest
from pathlib import Path

import h5py
import nbformat
import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import synthetic_model  # noqa: E402
import synthetic_results  # noqa: E402
from in_folder import InFolder  # noqa: E402
from notebooks_export import __main__ as program  # noqa: E402
from notebooks_export import style  # noqa: E402
from notebooks_export.figures import FIGURES, draw_all  # noqa: E402
from notebooks_export.layout import NoData  # noqa: E402
from notebooks_export.results import ExportError, open_results  # noqa: E402
from notebooks_export.study import open_study  # noqa: E402

SPECS = {figure.name: figure for figure in FIGURES}
MODEL = [figure.name for figure in FIGURES if figure.about == "model"]
FROM_MEASURE = MODEL[:4]


class ModelFile(InFolder):
    def write(self, name="model.h5", **tables):
        return synthetic_model.write(self.folder / name, **tables)

    def write_all(self, **options):
        return synthetic_model.write_all(self.folder / "model.h5", **options)

    def draw(self, path, name, **view):
        return SPECS[name].draw(open_study(path, **view))

    def drawn(self, path, **view):
        """Names of the figures that can be drawn; each is also saved, which is when text and layout are worked out."""
        drawn, left_out = draw_all(open_study(path, **view))
        for _, _, _, drawing in drawn:
            self.assertTrue(style.png_bytes(drawing.picture, dpi=30).startswith(b"\x89PNG"))
        self.assertEqual({name for name, *_ in drawn} & set(left_out), set())
        return [name for name, *_ in drawn]

    def measured(self, path):
        return open_results(path).tables["measure"]


class Maps(ModelFile):
    def test_cells_are_the_heads_of_the_setting_named(self):
        path = self.write_all(chosen=2)
        drawing = self.draw(path, "recall_map", where="layer in 0,5")
        rows, shown = self.measured(path), drawing.layout.rows
        self.assertEqual(shown[["block_size", "topk"]].drop_duplicates().values.tolist(), [[16, 8]])  # the chosen one's
        maps = [axis for axis in drawing.picture.axes if axis.get_title(loc="left")]
        self.assertEqual([axis.get_title(loc="left") for axis in maps], ["mean", "mean + block 0", "quest", "oracle"])
        for axis in maps:
            scorer, _, kept = axis.get_title(loc="left").partition(" + ")
            part = rows[(rows["block_size"] == 16) & (rows["topk"] == 8) & (rows["scorer"] == scorer)
                        & (rows["keep_first"] == bool(kept))]
            grid = part.pivot(index="layer", columns="head", values="mass_recall")
            np.testing.assert_array_equal(axis.collections[0].get_array().reshape(grid.shape), grid.to_numpy())
            written = [f"{value:.2f}"[1:] for value in grid.to_numpy().ravel()]
            self.assertEqual([text.get_text() for text in axis.texts], written)
            self.assertGreater(axis.get_ylim()[0], axis.get_ylim()[1])  # the first layer on top
        self.assertEqual([tick.get_text() for tick in maps[0].get_yticklabels()], ["0", "5"])
        self.assertIn("random", drawing.left_out)
        self.assertIn("submean-4", drawing.left_out)

    def test_missing_heads_are_no_zeros(self):
        columns = synthetic_model.measure(settings=((64, 8),), routers=(("mean", 0, 1),))
        columns["mass_recall"][1] = columns["mass_recall_low"][1] = columns["mass_recall_high"][1] = np.nan
        path = self.write(measure={name: values[:-1] for name, values in columns.items()})
        drawing = self.draw(path, "recall_map")
        cells = drawing.picture.axes[0].collections[0].get_array().ravel()
        self.assertEqual(np.ma.getmaskarray(cells).tolist(), [False, True, False, False, False, True])
        self.assertIn("Grey", drawing.caption)

    def test_many_heads_have_ticks_that_can_be_read(self):
        path = self.write_all(layers=tuple(range(30)), heads=32, settings=((64, 8),))
        for name in ("recall_map", "chosen_heads"):
            axis = self.draw(path, name).picture.axes[0]
            self.assertLessEqual(max(len(axis.get_xticks()), len(axis.get_yticks())), 18)
            self.assertEqual(len(axis.texts), 0)
            self.assertEqual(axis.collections[0].get_array().size, 30 * 32)

    def test_panels_as_asked(self):
        path = self.write_all()
        drawing = self.draw(path, "recall_map", panels="block-size", where="topk = 8 and scorer = quest")
        titles = [axis.get_title(loc="left") for axis in drawing.picture.axes if axis.get_title(loc="left")]
        self.assertEqual(titles, ["B = 16", "B = 32", "B = 64", "B = 128"])


class Curves(ModelFile):
    def marks(self, axis, colour):
        """(values, open) of the curves with marks of a colour."""
        return [(line.get_ydata(), line.get_markerfacecolor() == "white") for line in axis.lines
                if line.get_color() == colour and line.get_marker() not in ("", "None", None, "_", "|")]

    def test_means_at_fixed_k_and_at_a_fixed_budget(self):
        path = self.write_all()
        drawing, rows = self.draw(path, "recall_by_block_size"), self.measured(path)
        titles = [axis.get_title(loc="left") for axis in drawing.picture.axes]
        self.assertEqual(titles, ["fixed k = 8", "fixed k B = 1K", "", ""])
        for place, (value, kept) in enumerate(itertools.product(("mass_recall", "needle_hit"), ("k", "k B"))):
            part = rows[(rows["topk"] == 8) if kept == "k" else (rows["topk"] * rows["block_size"] == 1024)]
            for keep_first in (0, 1):
                of = part[(part["scorer"] == "mean") & (part["keep_first"] == keep_first)]
                expected = of.groupby("block_size")[value].mean().to_numpy()
                shown = [y for y, is_open in self.marks(drawing.picture.axes[place], style.BLUE) if is_open == keep_first]
                np.testing.assert_allclose(shown[0], expected, atol=1e-12)
        self.assertIn("all 42 settings", drawing.drawn)
        self.assertIn("6 heads of 2 layers", drawing.drawn)
        self.assertEqual(drawing.left_out, "")

    def test_spread_of_heads_and_predictions(self):
        path = self.write(measure=synthetic_model.measure(routers=(("quest", 0, 1),)))
        axis = self.draw(path, "recall_by_block_size").picture.axes[0]
        groups = self.measured(path).query("topk == 8").groupby("block_size")
        bars = axis.collections[0].get_segments()
        for (low, high), block in zip(((bar[0][1], bar[1][1]) for bar in bars), (16, 32, 64, 128)):
            values = groups.get_group(block)["mass_recall"]
            np.testing.assert_allclose((low, high), values.quantile((0.1, 0.9)), atol=1e-12)
        (dotted,) = [line for line in axis.lines if line.get_linestyle() == ":"]
        np.testing.assert_allclose(dotted.get_ydata(), groups["predicted_mass_recall"].mean(), atol=1e-12)

    def test_a_head_without_prediction_takes_the_dotted_line_away(self):
        columns = synthetic_model.measure(routers=(("quest", 0, 1),))
        columns["predicted_mass_recall"][columns["layer"] == 5] = np.nan
        drawing = self.draw(self.write(measure=columns), "recall_by_block_size")
        self.assertEqual([line for line in drawing.picture.axes[0].lines if line.get_linestyle() == ":"], [])
        self.assertIn("predicted_mass_recall", drawing.left_out)

    def test_a_budget_that_is_left_out_is_named(self):
        settings = tuple(itertools.product((16, 32, 64), (4, 8, 16)))
        drawing = self.draw(self.write_all(settings=settings), "recall_by_block_size")
        self.assertIn("fixed k = 8", drawing.picture.axes[0].get_title(loc="left"))
        self.assertRegex(drawing.left_out, r"Left out: \d+ of 54 settings")
        self.assertRegex(drawing.left_out, r"Not drawn as curves: k = 4, 16; k B = 128, 512 ")

    def test_other_axes_as_asked(self):
        path = self.write_all()
        drawing = self.draw(path, "recall_by_block_size", x="layer", colour="block-size", where="topk = 8 and scorer = quest")
        rows = self.measured(path).query("topk == 8 and scorer == 'quest' and block_size == 16")
        shown = [line.get_ydata() for line in drawing.picture.axes[0].lines if line.get_marker() == "o"][0]
        np.testing.assert_allclose(shown, rows.groupby("layer")["mass_recall"].mean(), atol=1e-12)

    def test_traces_of_one_head_are_not_averaged(self):
        one, two = synthetic_model.measure(seed=1), synthetic_model.measure(seed=2)
        two["trace"][:] = "b.safetensors"
        both = {name: np.concatenate([one[name], two[name]]) for name in one}
        drawing = self.draw(self.write(measure=both), "recall_by_block_size")
        self.assertTrue((drawing.layout.rows["heads"] == 6).all())
        two["layer"] += 100  # now another part of the same model
        both = {name: np.concatenate([one[name], two[name]]) for name in one}
        drawing = self.draw(self.write(measure=both), "recall_by_block_size")
        self.assertTrue((drawing.layout.rows["heads"] == 12).all())


class Predicted(ModelFile):
    def test_every_head_is_a_dot(self):
        columns = synthetic_model.measure(routers=(("mean", 0, 1), ("quest", 0, 1)))
        columns["predicted_mass_recall"][:5] = np.nan
        drawing = self.draw(self.write(measure=columns), "predicted_measured")
        axis = drawing.picture.axes[0]
        dots = np.concatenate([np.column_stack([line.get_xdata(), line.get_ydata()]) for line in axis.lines
                               if line.get_marker() == "o"])
        known = np.column_stack([columns["predicted_mass_recall"], columns["mass_recall"]])[5:]
        self.assertEqual(sorted(map(tuple, dots)), sorted(map(tuple, known)))
        self.assertIn(f"mean |error| {np.abs(known[:, 0] - known[:, 1]).mean():.3f}", axis.texts[0].get_text())
        self.assertIn("5 rows have no mass_recall or no prediction", drawing.left_out)

    def test_without_predictions_it_says_so(self):
        columns = {name: values for name, values in synthetic_model.measure().items() if not name.startswith("predicted")}
        with self.assertRaisesRegex(NoData, "predicted_mass_recall"):
            self.draw(self.write(measure=columns), "predicted_measured")


class Where(ModelFile):
    def test_bars_are_the_means_of_the_shares(self):
        path = self.write_all(chosen=2)
        drawing, rows = self.draw(path, "routed_where"), self.measured(path)
        names = [label.get_text() for label in drawing.picture.axes[0].get_yticklabels()]
        self.assertEqual(names, ["mean", "mean + block 0", "quest", "submean-4", "random", "oracle"])
        for axis, share in zip(drawing.picture.axes, ("window_share", "sink_share", "own_share")):
            part = rows[(rows["block_size"] == 16) & (rows["topk"] == 8)]
            expected = part.groupby(["scorer", "keep_first"], sort=False)[share].mean()
            np.testing.assert_allclose([bar.get_width() for bar in axis.patches], expected, atol=1e-12)

    def test_steps_are_the_shares_of_the_bins(self):
        columns = synthetic_model.measure(settings=((64, 8),), routers=(("mean", 0, 1), ("quest", 0, 1)))
        table = synthetic_model.distances(columns)
        drawing = self.draw(self.write(measure=columns, measure_distance=table), "routed_distance")
        lines = drawing.picture.axes[0].lines
        for line, scorer in zip(lines, ("mean", "quest")):
            rows = pd.DataFrame(table).query(f"scorer == '{scorer}'").groupby("distance_low")["routed_share"].mean()
            np.testing.assert_allclose(line.get_ydata()[::2], rows.to_numpy(), atol=1e-12)
            np.testing.assert_array_equal(line.get_xdata(), np.repeat(synthetic_model.EDGES, 2)[1:-1])
        self.assertEqual(len(lines), 3)  # the mass as well


    def test_distances_have_the_columns_of_their_settings(self):
        columns = synthetic_model.measure(layers=(3,), heads=2, settings=((64, 8),), routers=(("mean", 0, 1),))
        table = synthetic_model.distances(columns)
        bins = len(synthetic_model.EDGES) - 1
        table["setting"] = np.repeat([0, 1], bins)
        columns["text"] = np.array(["a book", "a letter"], dtype=object)
        path = self.write(measure=columns, measure_distance=table)
        read = open_results(path).tables["measure_distance"]
        self.assertEqual(read["text"].tolist(), ["a book"] * bins + ["a letter"] * bins)
        self.assertEqual(read["seq_len"].unique().tolist(), [4096])
        for wrong in (-1, 2):
            with h5py.File(path, "a") as file:
                file["measure_distance/setting"][0] = wrong
            with self.assertRaisesRegex(ExportError, "'measure_distance'.*setting"):
                open_results(path)


class Frontier(ModelFile):
    def test_line_ring_and_panels(self):
        path = self.write_all(chosen=7)
        drawing, table = self.draw(path, "frontier"), open_results(path).tables["advise"]
        best = table[table["on_frontier"] == 1].sort_values("keys_attended")
        by_keys, by_time = drawing.picture.axes
        (line,) = [line for line in by_keys.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == len(best)]
        np.testing.assert_allclose(line.get_ydata(), best["mean_mass_recall"])
        (ring,) = [line for line in by_keys.lines if line.get_markeredgecolor() == style.VERMILION and
                   line.get_markerfacecolor() == "none"]
        self.assertEqual((ring.get_xdata()[0], ring.get_ydata()[0]),
                         (table["keys_attended"][7], table["mean_mass_recall"][7]))
        self.assertIn("without milliseconds", drawing.left_out)
        self.assertIn("Chosen: ", drawing.drawn)

    def test_what_is_no_frontier_in_a_cost_is_not_joined(self):
        table, heads = synthetic_model.advise(synthetic_model.measure())
        table["on_frontier"][:] = 1
        drawing = self.draw(self.write(advise=table, advise_heads=heads), "frontier")
        legend = drawing.picture.axes[1].get_legend().get_texts()
        self.assertNotIn("frontier (B/k), interval", [text.get_text() for text in legend])
        self.assertIn("not joined", drawing.caption)

    def test_heads_that_stay_dense_are_framed(self):
        path = self.write_all()
        drawing, heads = self.draw(path, "chosen_heads"), open_results(path).tables["advise_heads"]
        frames = [patch for patch in drawing.picture.axes[0].patches if not patch.get_fill()]
        self.assertEqual(len(frames), int(heads["stay_dense"].sum()))
        self.assertTrue(0 < len(frames) < len(heads))
        self.assertIn("loses more than half", drawing.drawn)
        self.assertIn("mean, B = 16, k = 8", drawing.drawn)


class EverySize(ModelFile):
    def test_one_row(self):
        path = self.write_all(layers=(3,), heads=1, settings=((64, 8),), routers=(("mean", 0, 1),))
        self.assertEqual(self.drawn(path), MODEL)

    def test_one_head_one_block_size_one_router(self):
        for grid in (dict(layers=(3,), heads=1), dict(settings=((64, 8),)), dict(routers=(("quest", 1, 1),))):
            with self.subTest(grid):
                self.assertEqual(self.drawn(self.write_all(**grid)), MODEL)

    def test_many_heads(self):
        self.assertEqual(self.drawn(self.write_all(layers=tuple(range(30)), heads=9)), MODEL)

    def test_many_routers(self):
        routers = tuple((f"router{number}", number % 2, 1 + number % 3) for number in range(20))
        path = self.write_all(routers=routers)
        self.assertEqual(self.drawn(path), MODEL)
        drawing = self.draw(path, "recall_by_block_size")
        looks = [(line.get_color(), line.get_marker(), str(line.get_linestyle()), line.get_markerfacecolor())
                 for line in drawing.picture.axes[1].get_legend().get_lines()]
        self.assertEqual(len(looks), len(set(looks)))
        self.assertRegex(drawing.left_out, "router = ")

    def test_missing_values(self):
        columns = synthetic_model.measure()
        random = np.random.default_rng(7)
        for name, values in columns.items():
            if values.dtype.kind == "f" and not name.endswith(("_low", "_high")):
                values[random.random(len(values)) < 0.4] = np.nan
        table, heads = synthetic_model.advise(columns)
        self.assertTrue(np.isnan(table["mean_mass_recall"]).any())
        tables = dict(measure=columns, measure_distance=synthetic_model.distances(columns), advise=table, advise_heads=heads)
        tables["measure_distance"]["routed_share"][::3] = np.nan
        self.assertEqual(self.drawn(self.write(**tables)), MODEL)

    def test_no_column_but_one(self):
        whole = synthetic_model.measure()
        kept = {name: whole[name] for name in ("layer", "head", "block_size", "topk", "scorer")}
        for column, figures in (("mass_recall", ["recall_map", "recall_by_block_size"]),
                                ("needle_hit", ["recall_by_block_size"]),
                                ("lost_mass", ["recall_map"]), ("sink_share", ["routed_where"])):
            with self.subTest(column):
                self.assertEqual(self.drawn(self.write(measure={**kept, column: whole[column]})), figures)

    def test_no_needles(self):
        columns = {name: values for name, values in synthetic_model.measure().items() if "needle" not in name}
        drawing = self.draw(self.write(measure=columns), "recall_by_block_size")
        self.assertEqual(len(drawing.picture.axes), 2)
        self.assertIn("Not in the file: needle_hit", drawing.left_out)

    def test_any_axis_in_any_place(self):
        path = self.write_all(settings=((16, 8), (64, 8), (16, 32)), heads=2, routers=synthetic_model.ROUTERS[:3])
        axes = ("layer", "head", "block_size", "topk", "router", "scorer", "keep_first", "topk*block_size", "seq_len", "trace")
        for place, axis in enumerate(axes):
            for view in (dict(x=axis), dict(colour=axis), dict(panels=axis),
                         dict(x=axis, colour=axes[place - 1], panels=axes[place - 3])):
                with self.subTest(view):
                    for name in ("recall_map", "recall_by_block_size", "routed_where", "routed_distance"):
                        try:
                            self.assertTrue(self.draw(path, name, **view).drawn)
                        except NoData as reason:
                            self.assertIn("axis", str(reason))


class Told(ModelFile):
    def run_program(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = program.main([str(argument) for argument in arguments])
        return code, out.getvalue(), err.getvalue().splitlines()

    def test_page_and_figures(self):
        out = self.folder / "figures"
        code, said, errors = self.run_program(self.write_all(), "--out", out, "--where", "layer = 5")
        self.assertEqual((code, errors), (0, []))
        self.assertEqual({path.stem for path in out.glob("*.png")}, set(MODEL))
        self.assertIn("--where 'layer = 5' keeps", said)
        text = (out / "index.html").read_text()
        for name in MODEL:
            self.assertIn(SPECS[name].title, text)

    def test_notebook_draws_them_again(self):
        out = self.folder / "figures"
        self.run_program(self.write_all(), "--out", out)
        executed = self.folder / "executed.ipynb"
        subprocess.run([sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", out / "mobalab.ipynb",
                        "--output", executed], check=True, capture_output=True, timeout=300)
        pictures = [output for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code"
                    for output in cell.outputs if "image/png" in output.get("data", {})]
        self.assertEqual(len(pictures), len(MODEL))

    def test_figures_of_another_subject_are_not_missed(self):
        points = synthetic_results.write_results(self.folder / "points.h5", synthetic_results.grid(
            head_dims=(64,), block_sizes=(64,), seq_lens=(8192,), topks=(8,), clusters=((1, 0.0),), mus=(0.8,)),
            groups=("theory",))
        for path, about in ((points, "points"), (self.write(measure=synthetic_model.measure(heads=1)), "model")):
            drawn, left_out = draw_all(open_study(path))
            told = {figure.name for _, figure, *_ in drawn} | set(left_out)
            self.assertEqual(told, {figure.name for figure in FIGURES if figure.about == about})

    def test_nothing_to_draw_is_one_line(self):
        whole = synthetic_model.measure(heads=1)
        path = self.write(measure={name: whole[name] for name in ("layer", "head", "block_size", "topk", "scorer")})
        code, _, errors = self.run_program(path, "--out", self.folder / "figures")
        self.assertEqual((code, len(errors)), (2, 1), errors)
        self.assertIn("mass_recall", errors[0])

    def test_where_keeps_no_row_of_a_table(self):
        table, heads = synthetic_model.advise(synthetic_model.measure())
        measured = synthetic_model.measure(routers=(("cum2", 0, 1),))
        study = open_study(self.write(measure=measured, advise=table, advise_heads=heads), where="scorer = cum2")
        with self.assertRaisesRegex(NoData, "--where"):
            SPECS["frontier"].draw(study)

    def test_values_that_cannot_be(self):
        for table, column, value, rule in (
                ("measure", "mass_recall", 1.5, "from 0 to 1"), ("measure", "mass_recall_low", 0.99, "mass_recall_high"),
                ("measure", "layer", -1, "at least 0"), ("measure", "keep_first", 2, "from 0 to 1"),
                ("measure", "block_size", 0, "at least 1"), ("measure_distance", "distance_low", 1 << 30, "distance_high"),
                ("advise", "milliseconds", -1.0, "at least 0"), ("advise", "mean_mass_recall", np.inf, "from 0 to 1"),
                ("advise", "chosen", 7, "from 0 to 1"), ("advise_heads", "stay_dense", -1, "from 0 to 1")):
            with self.subTest(table=table, column=column):
                path = self.write_all(heads=1)
                with h5py.File(path, "a") as file:
                    file[table][column][0] = value
                with self.assertRaisesRegex(ExportError, rf"'{table}'.*{column}.*{rule}"):
                    open_results(path)

    def test_lacking_columns(self):
        path = self.write_all(heads=1)
        with h5py.File(path, "a") as file:
            del file["measure/topk"]
        with self.assertRaisesRegex(ExportError, "'measure' lacks the column topk"):
            open_results(path)


if __name__ == "__main__":
    unittest.main()
