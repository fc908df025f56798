"""What CMake takes and refuses on a stranger's machine: an active conda environment, an nvcc too old.

Usage: configure_test.py CMAKE SOURCE_DIR
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

CMAKE, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


def nvcc_of(folder, release):
    program(folder / "nvcc", f'echo "Cuda compilation tools, release {release}, V{release}.1"\n')


def conda_environment(prefix):
    """One that would break the build if anything of it were taken."""
    for package in ("fmt", "Boost", "boost_program_options", "GTest", "HDF5", "hdf5", "nlohmann_json", "benchmark", "Eigen3"):
        folder = prefix / "lib" / "cmake" / package
        folder.mkdir(parents=True)
        for name in (f"{package}Config", f"{package.lower()}-config"):
            (folder / f"{name}.cmake").write_text(f'message(FATAL_ERROR "conda\'s {package} was taken")\n')
        (folder / f"{package}ConfigVersion.cmake").write_text(
            "set(PACKAGE_VERSION 99)\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n")
    for name in ("h5cc", "h5pcc", "mpicc", "mpiexec", "cc", "c++", "gcc", "g++", "nvcc", "python3",
                 "x86_64-conda-linux-gnu-cc", "x86_64-conda-linux-gnu-c++"):
        program(prefix / "bin" / name, f"echo conda\\'s {name} was run >&2\nexit 1\n")
    (prefix / "include").mkdir()
    (prefix / "include" / "hdf5.h").write_text("#error conda's HDF5 was taken\n")
    for library in ("hdf5", "hdf5_hl", "fmt", "boost_program_options", "gtest", "mpi"):
        (prefix / "lib" / f"lib{library}.so").write_text("")


class Configure(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="mobalab_test_")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def configure(self, *options, **environment):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CONDA", "MAMBA", "CUDA"))}
        return subprocess.run(
            [CMAKE, "-S", SOURCE, "-B", self.folder / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", *options],
            env=inherited | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=500)

    def test_an_active_conda_lends_nothing_and_an_old_nvcc_builds_without_cuda(self):
        conda = self.folder / "conda prefix"
        conda_environment(conda)
        nvcc_of(self.folder / "old", "11.8")
        run = self.configure(
            CONDA_PREFIX=str(conda), PATH=f"{conda}/bin:{self.folder}/old:{os.environ['PATH']}",
            CMAKE_PREFIX_PATH=str(conda), CC="x86_64-conda-linux-gnu-cc", CXX="x86_64-conda-linux-gnu-c++",
            CXXFLAGS=f"-isystem '{conda}/include'", LDFLAGS=f"-L'{conda}/lib'", HDF5_ROOT=str(conda), fmt_ROOT=str(conda))
        self.assertEqual(run.returncode, 0, run.stdout)
        self.assertIn(f"Conda environment ignored: {conda}", run.stdout)
        self.assertIn("nvcc is of CUDA 11.8, too old: the kernels need 12.5 or later", run.stdout)
        for name in ("CMakeCache.txt", "build.ninja"):
            self.assertNotIn(str(conda), (self.folder / "build" / name).read_text())

    def test_the_kernels_alone_need_none_of_the_programs_libraries(self):
        absent = [f"-DCMAKE_DISABLE_FIND_PACKAGE_{package}=ON" for package in ("HDF5", "Boost", "nlohmann_json", "ZLIB")]
        for program, words in (("AUTO", "Program: OFF (not found: Boost, HDF5, nlohmann_json, ZLIB)"),
                               ("OFF", "Program: OFF (MOBALAB_PROGRAM=OFF)")):
            run = self.configure("-DMOBALAB_CUDA=OFF", f"-DMOBALAB_PROGRAM={program}", *absent)
            self.assertEqual(run.returncode, 0, run.stdout)
            self.assertIn(words, run.stdout)
        run = self.configure("-DMOBALAB_CUDA=OFF", "-DMOBALAB_PROGRAM=MAYBE")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("MOBALAB_PROGRAM=MAYBE: must be ON, OFF or AUTO", " ".join(run.stdout.split()))

    def test_cuda_asked_for_with_an_old_nvcc_is_an_error(self):
        nvcc_of(self.folder / "old", "12.4")
        run = self.configure("-DMOBALAB_CUDA=ON", PATH=f"{self.folder}/old:{os.environ['PATH']}")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("MOBALAB_CUDA=ON, but", run.stdout)
        self.assertIn("CUDA 12.4, too old", " ".join(run.stdout.split()))

    def test_architectures_that_mean_nothing_are_refused(self):
        nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
        if not pathlib.Path(nvcc).exists():
            self.skipTest("no nvcc")
        for value in ("", "75", "sm_80", "native", "80;all", "90a;8.6"):
            run = self.configure("-DMOBALAB_CUDA=ON", f"-DMOBALAB_CUDA_ARCHITECTURES={value}",
                                 f"-DCMAKE_CUDA_COMPILER={nvcc}")
            self.assertNotEqual(run.returncode, 0, value)
            text = " ".join(run.stdout.split())
            self.assertIn("MOBALAB_CUDA_ARCHITECTURES", text)
            self.assertIn("nearest valid choice: 80;90a", text)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
