"""Figures, notebook and page from results files whole, small, one-sided and broken."""

import contextlib
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest
import uuid
import xml.etree.ElementTree
from pathlib import Path
from unittest import mock

import h5py
import nbformat
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import synthetic_results  # noqa: E402
from notebooks_export import __main__ as program  # noqa: E402
from notebooks_export import layout, page, style  # noqa: E402
from notebooks_export.figures import FIGURES, agreement  # noqa: E402
from notebooks_export.results import ExportError, open_results  # noqa: E402
from notebooks_export.study import kernel_at_last_query, open_study  # noqa: E402

FROM_VALIDATE = ["hit_probability", "miss_probability", "pairwise_formula", "hits_by_candidates", "agreement"]
FROM_POINTS = FROM_VALIDATE[:3]
SMALL = dict(head_dims=(32, 64, 128), block_sizes=(32, 64, 256), seq_lens=(8192,), topks=(2, 8), mus=(0.8,))
ONE_POINT = dict(head_dims=(64,), block_sizes=(64,), seq_lens=(8192,), topks=(8,), clusters=((1, 0.0),), mus=(0.8,))


def run(*arguments):
    """Exit code, the paths on stdout and stderr lines of the program."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = program.main([str(argument) for argument in arguments])
    return code, [line for line in out.getvalue().splitlines() if line[:1] != " "], err.getvalue().splitlines()


class TemporaryFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, columns=None, name="results.h5", **options):
        return synthetic_results.write_results(self.folder / name, columns or synthetic_results.grid(**SMALL),
                                               **options)


class WholeFile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.path = synthetic_results.write_results(Path(folder.name) / "results.h5", synthetic_results.grid(**SMALL))
        cls.out = Path(folder.name) / "new" / "figures"
        cls.code, cls.listed, cls.errors = run(cls.path, "--out", cls.out)

    def test_writes_every_figure_the_notebook_and_the_page(self):
        self.assertEqual(self.code, 0, self.errors)
        self.assertEqual(len(self.errors), 2, self.errors)  # no table of speeds, nothing solved; no warning from below
        expected = {f"{name}.{kind}" for name in FROM_VALIDATE for kind in ("png", "svg")}
        expected |= {"mobalab.ipynb", "index.html"}
        self.assertEqual({path.name for path in self.out.iterdir()}, expected)
        self.assertEqual({Path(line).name for line in self.listed}, expected)
        for name in FROM_VALIDATE:
            self.assertTrue((self.out / f"{name}.png").read_bytes().startswith(b"\x89PNG"))
            xml.etree.ElementTree.parse(self.out / f"{name}.svg")

    def test_another_run_gives_the_same_bytes(self):
        first = {path.name: path.read_bytes() for path in self.out.iterdir()}
        environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONHASHSEED="7", SOURCE_DATE_EPOCH="1")
        subprocess.run([sys.executable, "-m", "notebooks_export", self.path, "--out", self.out], env=environment,
                       check=True, capture_output=True)
        for name, content in first.items():
            self.assertEqual((self.out / name).read_bytes(), content, name)

    def test_page_needs_no_other_file(self):
        text = (self.out / "index.html").read_text()
        sources = re.findall(r'(?:src|href)="([^"]{0,30})', text)
        self.assertEqual(len(sources), len(FROM_VALIDATE))
        self.assertTrue(all(source.startswith("data:image/svg+xml;base64,") for source in sources), sources)
        for words in ("0123abcd", "paper.cfg", "Clopper-Pearson, 99.9 %", "kernel-theory", "agrees"):
            self.assertIn(words, text)
        self.assertNotIn("DISAGREE", text)

    def test_files_are_readable_by_others(self):
        mask = os.umask(0)
        os.umask(mask)
        self.assertEqual((self.out / "index.html").stat().st_mode & 0o777, 0o666 & ~mask)


class Writing(TemporaryFolder):
    def setUp(self):
        super().setUp()
        self.path = self.write(synthetic_results.grid(**ONE_POINT), groups=("bench",))

    def test_page_escapes_what_the_file_says(self):
        with h5py.File(self.path, "a") as file:
            file.attrs["command"] = "<script>alert(1)</script>"
        text = page.build(open_study(self.path), [])
        self.assertNotIn(b"<script>", text)
        self.assertIn(b"&lt;script&gt;", text)

    def test_failed_write_keeps_the_old_files_and_no_litter(self):
        out = self.folder / "figures"
        run(self.path, "--out", out)
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        with h5py.File(self.path, "a") as file:
            file.attrs["command"] = "another"
        with mock.patch("os.replace", side_effect=OSError(28, "No space left on device")):
            code, _, errors = run(self.path, "--out", out)
        self.assertEqual((code, len(errors)), (2, 1))
        self.assertIn("No space left on device", errors[0])
        self.assertEqual({path.name: path.read_bytes() for path in out.iterdir()}, before)


class Notebook(TemporaryFolder):
    def test_runs_top_to_bottom_and_shows_every_figure(self):
        out = self.folder / "figures"
        run(self.write(), "--out", out)
        executed = self.folder / "executed.ipynb"
        subprocess.run([sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", out / "mobalab.ipynb",
                        "--output", executed], check=True, capture_output=True, timeout=300)
        cells = nbformat.read(executed, as_version=4).cells
        pictures = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs
                    if "image/png" in output.get("data", {})]
        self.assertEqual(len(pictures), len(FROM_VALIDATE))
        titles = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for figure in FIGURES:
            self.assertEqual(f"## {figure.title}" in titles, figure.name in FROM_VALIDATE)


class WhatIsDrawn(TemporaryFolder):
    def drawn(self, path, name):
        figure = next(figure for figure in FIGURES if figure.name == name)
        return figure.draw(open_study(path)).picture

    def test_lines_pass_through_the_exact_values(self):
        x, miss = np.array([0.25, 1.0, 4.0]), np.array([0.9, 0.4, 1e-4])
        fine, hits = style.smooth_hits(x, miss)
        for value, expected in zip(x, 1.0 - miss):
            self.assertAlmostEqual(float(np.interp(value, fine, hits)), expected, places=9)
        self.assertTrue(np.all(np.diff(hits) > 0))

    def test_hit_points_are_the_counts_of_the_file(self):
        path = self.write()
        axis = self.drawn(path, "hit_probability").axes[0]
        shown = sorted(float(y) for line in axis.lines if line.get_marker() == "o" for y in line.get_ydata())
        (_, rows), *_ = FIGURES[1].draw(open_study(path)).layout.panel_list()
        expected = sorted(rows["sim_misses"] / rows["sim_trials"])
        np.testing.assert_allclose(shown, sorted(1.0 - value for value in expected), atol=1e-12)

    def test_kernel_points_are_the_probes_of_the_last_block(self):
        results = open_results(self.write())
        points, bins = kernel_at_last_query(results), results.tables["validate_by_candidates"]
        for row in (0, len(points) - 1):
            last = bins[(bins["point"] == row) & (bins["candidates_low"] == points["candidates"].iloc[row])]
            self.assertEqual(points["kernel_misses"].iloc[row], last["kernel_misses"].iloc[0])
        np.testing.assert_allclose(points["kernel_expected_miss"], points["miss_probability"], rtol=1e-9)
        self.assertTrue((results.points["kernel_trials"] != points["kernel_trials"]).any())

    def test_points_without_a_miss_are_upper_limits(self):
        columns = synthetic_results.grid(**{**SMALL, "mus": (1.0,), "clusters": ((4, 0.8),)})
        axis = self.drawn(self.write(columns), "miss_probability").axes[0]
        limits = [y for line in axis.lines if line.get_marker() == "v" for y in line.get_ydata()]
        results = open_results(self.folder / "results.h5").points
        self.assertTrue(limits)
        self.assertTrue(set(limits) <= set(results["sim_miss_high"]) | set(
            kernel_at_last_query(open_results(self.folder / "results.h5"))["kernel_miss_high"]))

    def test_curves_are_told_apart_and_few(self):
        many = dict(SMALL, head_dims=(16, 32, 48, 64, 96, 128, 256))
        figure = self.drawn(self.write(synthetic_results.grid(**many)), "hit_probability")
        colours = {line.get_color() for line in figure.axes[0].lines if line.get_marker() == "o"}
        self.assertEqual(len(colours), layout.MAX_COLOURS)

    def test_slice_is_named(self):
        figure = self.drawn(self.write(), "hit_probability")
        words = " ".join(text.get_text() for text in figure.texts)
        for piece in ("model sphere", "N = 8K", "all 36 points"):
            self.assertIn(piece, words)

    def test_pairwise_formula_stands_above_the_exact_points(self):
        results = open_results(self.write())
        figure = self.drawn(results.path, "pairwise_formula")
        snr, hits = figure.axes[0].collections[0].get_offsets().data.T
        crowded = (results.points["candidates"] / (results.points["topk"] - 1) > 4).to_numpy()
        self.assertTrue(np.all(hits[crowded] < style.normal_cdf(snr[crowded])))


class Agreement(TemporaryFolder):
    def changed(self, column, value):
        path = self.write()
        with h5py.File(path, "a") as file:
            file["validate_comparisons"][column][3] = value
        return open_results(path)

    def test_agrees_when_no_adjusted_p_is_small(self):
        rows = agreement.summary(open_results(self.write()))
        self.assertEqual({row["verdict"] for row in rows}, {"agrees"})
        self.assertEqual([row["kind"] for row in rows], ["kernel-theory", "simulate-theory", "tie-rule"])

    def test_small_or_missing_p_disagrees_in_words_and_in_the_figure(self):
        for value in (1e-9, np.nan):
            results = self.changed("adjusted_p", value)
            verdicts = {row["kind"]: row["verdict"] for row in agreement.summary(results)}
            self.assertEqual(verdicts, {"kernel-theory": "agrees", "simulate-theory": "DISAGREES",
                                        "tie-rule": "agrees"})
            self.assertIn(b"DISAGREE", page.build(open_study(results.path), []))
            with style.context():
                title = agreement.draw(results).picture._suptitle.get_text()
            self.assertIn("1 of", title)

    def test_threshold_follows_the_error_rate_of_the_file(self):
        path = self.write()
        with h5py.File(path, "a") as file:
            file["validate_comparisons"].attrs["family_alpha"] = 0.01
        self.assertEqual(agreement.family_alpha(open_results(path)), 0.01)

    def test_infinite_z_stays_in_the_picture(self):
        for value in (np.inf, -np.inf, np.nan):
            with style.context():
                figure = agreement.draw(self.changed("z", value)).picture
            low, high = figure.axes[0].get_ylim()
            for line in figure.axes[0].lines[:2]:
                self.assertTrue(np.all((line.get_ydata() >= low) & (line.get_ydata() <= high)))


class SmallAndOneSided(TemporaryFolder):
    def assert_figures(self, path, expected):
        out = self.folder / "figures"
        code, _, errors = run(path, "--out", out)
        self.assertEqual(code, 0, errors)
        self.assertEqual({path.stem for path in out.glob("*.png")}, set(expected))
        told = " ".join(errors)
        for figure in FIGURES:
            self.assertEqual(figure.name in told, figure.name not in expected and figure.about == "points", errors)

    def test_tables_of_each_command(self):
        for group, expected in (("theory", FROM_POINTS), ("simulate", FROM_POINTS), ("route", FROM_POINTS),
                                ("bench", ["speed"])):
            with self.subTest(group), tempfile.TemporaryDirectory() as folder:
                self.folder = Path(folder)
                self.assert_figures(self.write(groups=(group,)), expected)

    def test_one_point(self):
        self.assert_figures(self.write(synthetic_results.grid(**ONE_POINT)), FROM_VALIDATE)

    def test_points_asked_for_by_candidates(self):
        columns = synthetic_results.grid(**SMALL)
        columns["seq_len"] = np.zeros_like(columns["seq_len"])
        path = self.write(columns)
        self.assert_figures(path, FROM_VALIDATE)
        drawing = FIGURES[1].draw(open_study(path))
        self.assertIn("c goes with them (31, 127, 255)", drawing.drawn)
        self.assertNotIn("N = ", drawing.drawn)

    def test_points_beyond_the_papers_setting(self):
        plain = synthetic_results.grid(**SMALL)
        size = len(plain["head_dim"])

        def twice(column):
            return np.concatenate([np.asarray(plain[column])] * 2)

        columns = {name: twice(name) for name in plain}
        columns["key_conv"] = np.repeat([0, 3], size)
        columns["key_conv_activation"] = np.array(["silu"] * 2 * size, dtype=object)
        for name in ("miss_probability", "log_miss_probability"):
            columns[name] = np.where(columns["key_conv"] > 0, np.nan, columns[name])
        path = self.write(columns, groups=("simulate",))
        self.assert_figures(path, FROM_POINTS)
        drawing = FIGURES[1].draw(open_study(path))
        for _, rows in drawing.layout.panel_list():
            for _, _, curve in drawing.layout.curve_list(rows):
                self.assertEqual(curve["key_conv"].nunique(), 1, "a curve joins points of one question")
        pairwise = next(figure for figure in FIGURES if figure.name == "pairwise_formula").draw(open_study(path))
        self.assertIn(f"Left out: {size} of {2 * size} points", pairwise.left_out)
        convolved = {name: values[size:] for name, values in columns.items()}
        self.folder = self.folder / "convolved"
        self.folder.mkdir()
        self.assert_figures(self.write(convolved, groups=("simulate",)), FROM_POINTS[:2])

    def test_point_that_routes_nothing(self):
        columns = synthetic_results.grid(**{**SMALL, "topks": (1,)})
        self.assert_figures(self.write(columns), [name for name in FROM_VALIDATE if name != "pairwise_formula"])

    def test_many_points_of_one_block_size(self):
        self.assert_figures(self.write(synthetic_results.grid(**{**SMALL, "head_dims": (64,)})), FROM_VALIDATE)


class Refused(TemporaryFolder):
    def write(self, **options):
        return super().write(synthetic_results.grid(**ONE_POINT), **options)

    def assert_refused(self, path, *words, out=None):
        code, listed, errors = run(path, "--out", out or self.folder / "figures")
        self.assertEqual((code, listed, len(errors)), (2, [], 1), errors)
        self.assertTrue(errors[0].startswith("mobalab export: error: "), errors)
        for word in words:
            self.assertIn(word, errors[0])
        self.assertFalse((self.folder / "figures").exists())


class BadInput(Refused):
    def test_no_file(self):
        self.assert_refused(self.folder / "none.h5", "none.h5", "no such file")

    def test_folder(self):
        self.assert_refused(self.folder, "is a folder")

    def test_text_file(self):
        (self.folder / "notes.txt").write_text("d,B\n64,64\n")
        self.assert_refused(self.folder / "notes.txt", "not an HDF5 file")

    def test_truncated_at_many_places(self):
        whole = self.write().read_bytes()
        for share in (0.0, 0.001, 0.05, 0.3, 0.6, 0.9, 0.999):
            with self.subTest(share=share):
                (self.folder / "cut.h5").write_bytes(whole[:int(share * len(whole))])
                self.assert_refused(self.folder / "cut.h5", "cut.h5")

    def test_damaged_sealed_file(self):
        path = self.write()
        data = path.read_bytes()
        digest = hashlib.sha1(uuid.NAMESPACE_OID.bytes + data).digest()
        sealed = data + b"\nmobalab seal " + str(uuid.UUID(bytes=digest[:16], version=5)).encode() + b"\n"
        path.write_bytes(sealed)
        open_results(path)
        middle = len(data) // 2
        path.write_bytes(sealed[:middle] + bytes([sealed[middle] ^ 1]) + sealed[middle + 1:])
        self.assert_refused(path, "is damaged", "seal")

    def test_foreign_hdf5(self):
        with h5py.File(self.folder / "foreign.h5", "w") as file:
            file["theory/x"] = [1.0]
        self.assert_refused(self.folder / "foreign.h5", "something else")

    def test_other_schema_version(self):
        self.assert_refused(self.write(schema_version=99), "99", "reads 1")

    def test_no_table(self):
        path = self.write()
        with h5py.File(path, "a") as file:
            for group in list(file):
                del file[group]
        self.assert_refused(path, "holds no table", "validate")

    def test_missing_column(self):
        path = self.write()
        with h5py.File(path, "a") as file:
            del file["validate/snr"]
        self.assert_refused(path, "'validate'", "snr")

    def test_folder_that_cannot_be_made(self):
        path = self.write()
        (self.folder / "file").write_text("")
        self.assert_refused(path, "cannot be written", out=self.folder / "file" / "figures")

    def test_missing_module_names_the_debian_package(self):
        path, real = self.write(), program.importlib.util.find_spec
        with mock.patch("importlib.util.find_spec", lambda name: None if name == "h5netcdf" else real(name)):
            self.assert_refused(path, "h5netcdf", "python3-h5netcdf", "MOBALAB_PYTHON")

    def test_what_is_no_regular_file(self):
        os.mkfifo(self.folder / "pipe.h5")  # nobody writes into it: reading would wait for ever
        self.assert_refused(self.folder / "pipe.h5", "pipe.h5", "regular file")
        self.assert_refused(Path("/dev/zero"), "/dev/zero", "regular file")
        (self.folder / "loop.h5").symlink_to(self.folder / "loop.h5")
        self.assert_refused(self.folder / "loop.h5", "loop.h5", "cannot be read")
        self.assert_refused(self.folder / ("long" * 100), "cannot be read")
        with open(self.folder / "huge.h5", "wb") as file:
            file.truncate(1 << 40)  # takes no room on the disk
        self.assert_refused(self.folder / "huge.h5", "2 GiB")

    def test_one_byte(self):
        for data in (b"\0", b"\x89", b"\x89HDF\r\n\x1a\n"):
            with self.subTest(data=data):
                (self.folder / "byte.h5").write_bytes(data)
                self.assert_refused(self.folder / "byte.h5", "byte.h5")

    def test_error_type_is_not_a_traceback(self):
        with self.assertRaises(ExportError):
            open_results(self.folder / "none.h5")


class ChangedByAnotherProgram(Refused):
    """Files without a seal whose columns cannot be what their names say: one line each, never a traceback."""

    def assert_column_refused(self, column, values, *words, **how):
        with self.subTest(column=column, values=str(values)[:40]):
            path = self.write()
            with h5py.File(path, "a") as file:
                group = file["validate"]
                del group[column]
                made = group.create_dataset(column, data=values, **how)
                if made.shape == (1,):
                    made.dims[0].attach_scale(group["point"])
            self.assert_refused(path, "'validate'", column, *words)

    def test_columns_of_another_shape_or_type(self):
        compound = np.zeros(1, dtype=[("a", "i4"), ("b", "f8")])
        self.assert_column_refused("snr", 1.0, "one-dimensional")
        self.assert_column_refused("snr", [[1.0]], "one-dimensional")
        self.assert_column_refused("snr", h5py.Empty("f8"), "one-dimensional")
        self.assert_column_refused("snr", ["high"], "text", "numbers", dtype=h5py.string_dtype())
        self.assert_column_refused("block_size", np.array([b"64"]), "text", "numbers")
        self.assert_column_refused("model", [1], "numbers", "text")
        self.assert_column_refused("snr", compound)
        self.assert_column_refused("snr", np.array([1j]))
        self.assert_column_refused("snr", np.array([True]))
        arrays = np.empty(1, dtype=object)
        arrays[0] = np.arange(3)
        self.assert_column_refused("sim_stop_reason", arrays, dtype=h5py.vlen_dtype(np.int64))

    def test_values_that_cannot_be(self):
        for column, value, rule in (
                ("block_size", 0, "at least 1"), ("block_size", -64, "at least 1"), ("block_size", 64.5, "whole"),
                ("block_size", np.nan, "whole"), ("head_dim", np.inf, "whole"), ("topk", 0, "at least 1"),
                ("candidates", 0, "at least 1"), ("cluster_size", -1, "at least 1"), ("seq_len", -1, "at least 0"),
                ("mu_signal", np.nan, "from -1 to 1"), ("mu_signal", 1.5, "from -1 to 1"), ("snr", np.inf, "number"),
                ("miss_probability", 1.2, "from 0 to 1"), ("pairwise_miss", -0.1, "from 0 to 1"),
                ("log_miss_probability", 1.0, "at most 0"), ("sim_trials", -1, "at least 0"),
                ("sim_misses", -1, "at least 0"), ("sim_misses", 1 << 40, "at most its 'sim_trials'"),
                ("sim_miss_low", 0.9999999, "at most its 'sim_miss_high'"), ("kernel_misses", np.nan, "whole")):
            self.assert_column_refused(column, [value], rule)
        self.assert_column_refused("model", ["spere"], "gaussian-fixed", dtype=h5py.string_dtype())

    def test_values_of_the_other_tables(self):
        def changed(table, column, value, *words):
            with self.subTest(table=table, column=column, value=value):
                path = self.write(groups=("validate", "bench"))
                with h5py.File(path, "a") as file:
                    file[table][column][0] = value
                self.assert_refused(path, f"'{table}'", column, *words)

        changed("validate_by_candidates", "point", 1, "from -1 to 0")
        changed("validate_by_candidates", "candidates_low", 0, "at least 1")
        changed("validate_by_candidates", "candidates_low", 1 << 40, "at most its 'candidates_high'")
        changed("validate_by_candidates", "kernel_trials", -5, "at least 0")
        changed("validate_comparisons", "point", -2, "from -1 to 0")
        changed("validate_comparisons", "p_value", 2.0, "from 0 to 1")
        changed("bench", "seconds_median", np.nan, "at least 0")
        changed("bench", "seconds_low", -1.0, "at least 0")
        changed("bench", "seconds_high", 1e-9, "seconds_median")

    def test_missing_values_that_are_marked_are_taken(self):
        path = self.write()
        with h5py.File(path, "a") as file:
            file["validate/sim_misses"][0] = -1
            file["validate/sim_misses"].attrs["_FillValue"] = np.int64(-1)
            file["validate/miss_probability"][0] = np.nan
        self.assertTrue(np.isnan(open_results(path).points["sim_misses"][0]))

    def test_counts_come_together(self):
        path = self.write()
        with h5py.File(path, "a") as file:
            del file["validate/sim_trials"]
        self.assert_refused(path, "sim_trials", "missing")

    def test_other_lengths_and_no_rows(self):
        path = self.write()
        with h5py.File(path, "a") as file:
            del file["validate/snr"]
            file["validate/snr"] = np.ones(7)
        self.assert_refused(path, "validate")
        path = self.write()
        with h5py.File(path, "a") as file:
            group = file["validate"]
            for name in list(group):
                text, attributes = group[name].dtype.kind == "O", dict(group[name].attrs)
                del group[name]
                group.create_dataset(name, shape=(0,), dtype=h5py.string_dtype() if text else "f8")
        self.assert_refused(path, "validate")

    def test_rows_beyond_memory(self):
        path = self.write()
        with h5py.File(path, "a") as file:
            del file["validate/snr"]
            file["validate"].create_dataset("snr", shape=(1 << 40,), dtype="f8", chunks=(1 << 20,))  # no chunk is stored
        self.assert_refused(path, "1099511627776 rows", "1000000")

    def test_groups_and_links_in_the_place_of_columns(self):
        path = self.write()
        with h5py.File(path, "a") as file:
            del file["validate/snr"]
            file["validate"].create_group("snr")
        self.assert_refused(path, "snr", "not a column")
        with h5py.File(path, "a") as file:
            del file["validate/snr"]
            file["validate/snr"] = h5py.SoftLink("/nowhere")
        self.assert_refused(path, "snr", "not a column")

    def test_attributes_the_figures_compute_with(self):
        for group, name, value in (("validate", "confidence", "high"), ("validate", "confidence", 95.0),
                                   ("validate", "confidence", np.nan), ("validate_comparisons", "family_alpha", 0.0),
                                   ("validate_comparisons", "family_alpha", [0.1, 0.2])):
            with self.subTest(name=name, value=value):
                path = self.write()
                with h5py.File(path, "a") as file:
                    file[group].attrs[name] = value
                self.assert_refused(path, name, "between 0 and 1")


class Names(TemporaryFolder):
    """Names and texts with bytes that are no UTF-8."""

    def test_file_and_folder(self):
        path = self.write(synthetic_results.grid(**ONE_POINT), groups=("bench",))
        strange = self.folder / os.fsdecode(b"caf\xe9.h5")
        path.rename(strange)
        out = self.folder / os.fsdecode(b"fig\xff")
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        ran = subprocess.run([sys.executable, "-m", "notebooks_export", strange, "--out", out], env=environment,
                             capture_output=True)
        self.assertEqual((ran.returncode, b"Traceback" in ran.stderr), (0, False), ran.stderr)
        self.assertEqual({Path(os.fsdecode(line)) for line in ran.stdout.splitlines() if line[:1] != b" "},
                         set(out.iterdir()))
        self.assertIn("caf\ufffd.h5", (out / "index.html").read_text(encoding="utf-8"))
        setup = nbformat.read(out / "mobalab.ipynb", as_version=4).cells[1].source
        literal = re.search(r"RESULTS = \[(.*)\]  # the", setup).group(1)
        self.assertEqual((out / eval(literal)).resolve(), strange.resolve())  # a string literal that we wrote
        self.assertEqual(os.fsencode(strange.name), b"caf\xe9.h5")

    def test_text_in_the_file(self):
        path = self.write(synthetic_results.grid(**ONE_POINT), groups=("bench",))
        with h5py.File(path, "a") as file:
            file.attrs.create("command", np.bytes_(b"mobalab bench --out caf\xe9.h5"), dtype=h5py.string_dtype())
        self.assertIn("caf\ufffd", page.build(open_study(path), []).decode())


class Signals(TemporaryFolder):
    """A signal stops the drawing without a word; what is being written is written to the end."""

    def started(self, hook):
        """The program with `hook` run first in its process, once it has said that it is ready."""
        path = self.write(synthetic_results.grid(**ONE_POINT), groups=("bench",))
        code = ("import os, runpy, sys, threading\nsys.argv = ['export', sys.argv[1], '--out', sys.argv[2]]\n" + hook +
                "\nrunpy.run_module('notebooks_export', run_name='__main__')")
        program = subprocess.Popen([sys.executable, "-c", code, path, self.folder / "figures"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=dict(os.environ, PYTHONPATH=str(ROOT)))
        self.addCleanup(program.kill)
        self.assertEqual(program.stdout.readline(), b"ready\n")
        return program

    def test_while_it_draws(self):
        hook = ("from notebooks_export import export\n"
                "def wait(paths, **options):\n    print('ready', flush=True)\n    threading.Event().wait()\n"
                "export.open_study = wait")
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number=number):
                program = self.started(hook)
                program.send_signal(number)
                self.assertEqual(program.communicate(timeout=600), (b"", b""))
                self.assertEqual(program.returncode, -number)
                self.assertFalse((self.folder / "figures").exists())

    def test_while_it_writes(self):
        hook = ("real, waited = os.replace, []\n"
                "def replace(old, new):\n"
                "    if not waited:\n        print('ready', flush=True)\n        waited.append(sys.stdin.readline())\n"
                "    real(old, new)\n"
                "os.replace = replace")
        program = self.started(hook)
        program.send_signal(signal.SIGTERM)
        program.send_signal(signal.SIGINT)
        out, errors = program.communicate(b"go on\n", timeout=600)
        self.assertEqual((program.returncode, b"Traceback" in errors), (0, False), errors)
        self.assertEqual({Path(line.decode()) for line in out.splitlines() if line[:1] != b" "},
                         set((self.folder / "figures").iterdir()))


if __name__ == "__main__":
    unittest.main()
