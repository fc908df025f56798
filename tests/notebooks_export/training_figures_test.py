"""Figures of trained models: what stands in the picture is what stands in the file, and what cannot be drawn is said."""

import sys
import unittest
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import synthetic_model  # noqa: E402
import synthetic_training  # noqa: E402
from in_folder import InFolder  # noqa: E402
from notebooks_export import style  # noqa: E402
from notebooks_export.export import export  # noqa: E402
from notebooks_export.figures import FIGURES, draw_all  # noqa: E402
from notebooks_export.layout import NoData  # noqa: E402
from notebooks_export.results import ExportError, open_results  # noqa: E402
from notebooks_export.study import open_study  # noqa: E402

SPECS = {figure.name: figure for figure in FIGURES}
TRAINING = [figure.name for figure in FIGURES if figure.about == "training"]


class TrainingFile(InFolder):
    def write(self, **tables):
        return synthetic_training.write(self.folder / "t.h5", **(tables or synthetic_training.all_tables()))

    def draw(self, name, path=None, **view):
        return SPECS[name].draw(open_study(path or self.write(), **view))

    def table(self, name):
        rows = open_results(self.folder / "t.h5").tables[name]
        return rows[rows["variant"] == "as trained"] if "variant" in rows else rows


def panels(drawing):
    return [axis for axis in drawing.picture.axes if axis.get_title(loc="left") or axis.get_xlabel()]


def marks(axis, colour, mark="o"):
    return [line for line in axis.lines if line.get_color() == colour and line.get_marker() == mark]


class Accuracy(TrainingFile):
    def test_means_and_curves_at_the_shortest_length(self):
        drawing = self.draw("trained_accuracy")
        self.assertEqual([axis.get_title(loc="left") for axis in panels(drawing)], ["k B = 256", "k B = 512"])
        axis, rows = panels(drawing)[0], self.table("training")
        part = rows[(rows["seq_len"] == 2048) & (rows["attention"] == "moba") & (rows["key_conv"] == 0)
                    & (rows["scorer"] == "mean") & (rows["topk"] * rows["block_size"] == 256)]
        by_ratio = part.assign(ratio=64 / part["block_size"]).groupby("ratio")
        (mean,) = marks(axis, style.BLUE)
        np.testing.assert_allclose(mean.get_ydata(), by_ratio["accuracy"].mean())
        np.testing.assert_allclose(np.log2(mean.get_xdata()), np.log2([0.5, 2.0, 4.0]), atol=0.1)
        for dashes, name in (("-", "predicted_accuracy_retrieval_layer"), (":", "predicted_accuracy")):
            (line,) = [line for line in axis.lines if line.get_color() == style.BLUE and line.get_linestyle() == dashes]
            np.testing.assert_allclose(line.get_ydata(), by_ratio[name].mean())
        dense = rows[(rows["attention"] == "dense") & (rows["seq_len"] == 2048)]["accuracy"].mean()
        self.assertIn(dense, [line.get_ydata()[0] for line in axis.lines if line.get_color() == style.BLACK])
        self.assertIn("30 rows at other lengths", drawing.left_out)

    def test_lengths_as_panels(self):
        drawing = self.draw("trained_accuracy", panels="seq_len", where="topk in 2,8,16,0 and scorer != random")
        self.assertEqual([axis.get_title(loc="left") for axis in panels(drawing)], ["N = 2K", "N = 8K"])
        self.assertNotIn("other lengths", drawing.left_out)

    def test_variants_are_not_drawn(self):
        rows = [row for row in synthetic_training.training() if row["variant"] == "no-conv"]
        with self.assertRaisesRegex(NoData, "no row of a model as trained"):
            self.draw("trained_accuracy", self.write(training=rows))

    def test_without_moba(self):
        rows = [row for row in synthetic_training.training() if row["attention"] == "dense"]
        with self.assertRaisesRegex(NoData, "no row of attention moba"):
            self.draw("trained_accuracy", self.write(training=rows))


class Scatter(TrainingFile):
    def test_heads_and_their_errors(self):
        drawing = self.draw("trained_hits")
        rows = self.table("training_heads")
        exact, uncorrected = panels(drawing)
        error = (rows["hit"] - rows["predicted_hit"]).abs().mean()
        self.assertIn(f"mean |error| {error:.3f}", exact.texts[0].get_text())
        error = (rows["hit"] - rows["uncorrected_hit"]).abs().mean()
        self.assertIn(f"mean |error| {error:.3f}", uncorrected.texts[0].get_text())
        dots = [line for line in exact.lines if line.get_marker() == "o"]
        self.assertEqual(sum(len(line.get_xdata()) for line in dots), len(rows))
        of_16 = rows[rows["block_size"] == 16]
        np.testing.assert_allclose(dots[0].get_xdata(), of_16["predicted_hit"])
        np.testing.assert_allclose(dots[0].get_ydata(), of_16["hit"])
        self.assertIn("24 dots", drawing.drawn)

    def test_models_without_prediction_are_counted(self):
        drawing = self.draw("trained_answers", colour="key_conv")
        self.assertEqual([axis.get_title(loc="left") for axis in panels(drawing)],
                         ["heads independent", "heads correlated", "retrieval layer alone"])
        self.assertIn("24 trained models, 48 dots", drawing.drawn)
        self.assertIn("12 rows have no prediction", drawing.left_out)
        (legend,) = [axis.get_legend() for axis in drawing.picture.axes if axis.get_legend()]
        self.assertEqual(len(legend.get_texts()), 2)

    def test_predictions_that_the_file_lacks_have_no_panel(self):
        rows = [dict(row, predicted_accuracy_correlated=np.nan) for row in synthetic_training.training()]
        drawing = self.draw("trained_answers", self.write(training=rows))
        self.assertEqual(len(panels(drawing)), 2)
        with self.assertRaisesRegex(NoData, "predicted_hit"):
            self.draw("trained_hits", self.write(training_heads=[
                dict(row, predicted_hit=np.nan, uncorrected_hit=np.nan) for row in synthetic_training.heads()]))


class Variants(TrainingFile):
    def test_means_of_arms_of_which_a_part_was_changed(self):
        drawing = self.draw("trained_variants")
        answers, hits = panels(drawing)
        self.assertEqual([text.get_text() for text in hits.get_legend().get_texts()], ["as trained", "gain", "no-conv"])
        arms = [label.get_text() for label in answers.get_yticklabels()]
        rows = open_results(self.folder / "t.h5").tables["training"]
        part = rows[(rows["block_size"] == 16) & (rows["key_conv"] == 3) & (rows["seq_len"] == 2048)]
        (place,) = {arms.index(arm) for arm in part["arm"]}
        for colour, variant in ((style.BLUE, "as trained"), (style.GREEN, "no-conv")):
            (means,) = marks(answers, colour)
            at = dict(zip(means.get_ydata(), means.get_xdata()))
            self.assertAlmostEqual(at[place], part[part["variant"] == variant]["accuracy"].mean())
        self.assertIn("9 trained models", drawing.drawn)

    def test_hits_are_those_of_the_layer_that_hits_most_as_trained(self):
        plain, other = (dict(row, hit_low=0.0) for row in synthetic_training.heads()[:2])
        rows = [dict(plain, layer=1, hit=0.3), dict(other, layer=1, hit=0.5), dict(plain, layer=3, hit=0.2, hit_high=0.2)]
        rows += [dict(row, variant="gain", hit=hit, hit_high=1.0) for row, hit in zip(rows, (0.1, 0.2, 0.9))]
        (axis,) = panels(self.draw("trained_variants", self.write(training_heads=rows)))
        np.testing.assert_allclose([marks(axis, colour)[0].get_xdata()[0] for colour in (style.BLUE, style.ORANGE)], [0.4, 0.15])

    def test_without_variants(self):
        rows = [row for row in synthetic_training.training() if row["variant"] == "as trained"]
        with self.assertRaisesRegex(NoData, "no table of trained models has an evaluation"):
            self.draw("trained_variants", self.write(training=rows))


class Curves(TrainingFile):
    def test_a_line_for_each_run(self):
        drawing = self.draw("trained_curves", where="block_size = 16 and key_conv = 0")
        loss, shares, snr = drawing.picture.axes
        self.assertEqual(len(loss.lines), len(synthetic_training.SEEDS))
        self.assertEqual(list(loss.lines[0].get_xdata()), [100, 500, 1000])
        self.assertEqual([line.get_linestyle() for line in shares.lines], ["-", "--"] * len(synthetic_training.SEEDS))
        np.testing.assert_allclose(snr.lines[0].get_ydata(), np.array([0.2, 1.0, 2.0]) / np.sqrt(2.0))
        self.assertIn("3 trained models", drawing.drawn)

    def test_arms_that_do_not_fit_and_those_without_retrieval_are_named(self):
        drawing = self.draw("trained_curves")
        self.assertEqual(len(drawing.picture.axes), 3 * 6)
        self.assertIn("Left out: ", drawing.left_out)
        measured = self.table("training_curves").dropna(subset=["hit"])["arm"]
        self.assertTrue(all(axis.get_title(loc="left") in set(measured) for axis in drawing.picture.axes[:6]))


class Language(TrainingFile):
    def test_losses_of_the_last_step_and_the_band_of_dense(self):
        drawing = self.draw("validation_loss")
        losses, above = panels(drawing)
        self.assertEqual([label.get_text() for label in losses.get_yticklabels()],
                         ["dense d 64", "moba B 512 k 2 d 64", "moba B 32 k 32 d 64"])
        (dense,) = marks(losses, style.BLACK)
        np.testing.assert_allclose(dense.get_xdata(), [2.0, 2.01])
        band = losses.patches[0].get_window_extent().transformed(losses.transData.inverted())
        np.testing.assert_allclose((band.x0, band.x1), (2.0, 2.01))
        np.testing.assert_allclose(above.collections[0].get_offsets()[:, 0], [0.02, 0.04])

    def test_positions_above_dense(self):
        drawing = self.draw("loss_by_position")
        losses, above = panels(drawing)
        self.assertEqual(len(losses.lines), 3)
        np.testing.assert_allclose(above.lines[1].get_ydata(), [0.045] * 3)
        np.testing.assert_allclose(above.lines[1].get_xdata(), np.sqrt([1 * 64, 64 * 512, 512 * 8192]))

    def test_needles_by_depth(self):
        drawing = self.draw("needle_accuracy")
        self.assertEqual([axis.get_title(loc="left") for axis in panels(drawing)], ["N = 8K", "N = 32K"])
        np.testing.assert_allclose(panels(drawing)[0].lines[2].get_ydata(), [0.3] * 3)

    def test_without_dense_there_is_no_difference(self):
        rows = [dict(row, loss_above_dense=np.nan) for row in synthetic_training.validation() if row["attention"] == "moba"]
        drawing = self.draw("validation_loss", self.write(training_validation=rows))
        self.assertEqual(len(panels(drawing)), 1)
        self.assertIn("No difference from dense", drawing.left_out)


class Files(TrainingFile):
    def test_export_writes_every_figure_the_page_and_the_notebook(self):
        out = self.folder / "figures"
        done = export([self.write()], out)
        self.assertEqual({path.stem for path in out.glob("*.png")}, set(TRAINING))
        self.assertEqual(done.left_out, {})
        page = (out / "index.html").read_text(encoding="utf-8")
        notebook = (out / "mobalab.ipynb").read_text(encoding="utf-8")
        for name in TRAINING:
            self.assertIn(SPECS[name].title, page)
            self.assertIn(f'show(\\"{name}\\")', notebook)

    def test_figures_of_another_subject_are_not_missed(self):
        drawn, left_out = draw_all(open_study(self.write(training=synthetic_training.training())))
        self.assertEqual({figure.name for _, figure, *_ in drawn} | set(left_out), set(TRAINING))
        self.assertEqual({figure.name for _, figure, *_ in drawn}, {"trained_accuracy", "trained_answers", "trained_variants"})
        model = synthetic_model.write(self.folder / "m.h5", measure=synthetic_model.measure(heads=1))
        _, left_out = draw_all(open_study(model))
        self.assertEqual(set(left_out) & set(TRAINING), set())

    def test_where_keeps_no_row_of_a_table(self):
        with self.assertRaisesRegex(NoData, "--where keeps no row of table 'training_heads'"):
            self.draw("trained_hits", where="attention = dense")

    def test_values_that_cannot_be(self):
        for table, column, value, rule in (
                ("training", "accuracy", 1.5, "from 0 to 1"), ("training", "accuracy_low", 0.99, "accuracy_high"),
                ("training", "block_size", -1, "at least 0"), ("training_heads", "layer", -1, "at least 0"),
                ("training_heads", "hit_low", 0.99, "hit_high"), ("training_curves", "loss", -1.0, "at least 0"),
                ("training_positions", "position_low", 1 << 20, "position_high"),
                ("training_needles", "depth", 2.0, "from 0 to 1"), ("training_validation", "loss", np.inf, "at least 0")):
            with self.subTest(table=table, column=column):
                path = self.write()
                with h5py.File(path, "a") as file:
                    file[table][column][0] = value
                with self.assertRaisesRegex(ExportError, rf"'{table}'.*{column}.*{rule}"):
                    open_results(path)

    def test_lacking_columns(self):
        path = self.write()
        with h5py.File(path, "a") as file:
            del file["training/attention"]
        with self.assertRaisesRegex(ExportError, "'training' lacks the column attention"):
            open_results(path)


if __name__ == "__main__":
    unittest.main()
