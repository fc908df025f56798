"""install_packages.sh on machines that are not the developer's, by stand-ins for dpkg-query, apt-get, id and sleep.

Usage: install_packages_test.py SOURCE_DIR
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(sys.argv[1]) / "experiments" / "install_packages.sh"
NOTHING_INSTALLED = "exit 1"
ONLY_MPI_MISSING = 'case "$*" in *openmpi*) exit 1;; esac; printf installed'


class InstallPackages(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="mobalab_test_")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name in ("bash", "env", "seq", "mktemp", "tee", "grep", "rm", "touch"):
            (self.folder / name).symlink_to(shutil.which(name))
        self.program("sleep", f"touch {self.folder}/slept")
        self.program("apt-cache", "exit 0")

    def program(self, name, text):
        (self.folder / name).write_text(f"#!{self.folder}/bash\n{text}\n")
        (self.folder / name).chmod(0o755)

    def run_script(self, dpkg_query=None, apt_get=None, user=0):
        self.program("id", f"echo {user}")
        if dpkg_query is not None:
            self.program("dpkg-query", dpkg_query)
        if apt_get is not None:
            self.program("apt-get", apt_get)
        run = subprocess.run([self.folder / "bash", SCRIPT], env={"PATH": str(self.folder)}, text=True, timeout=100,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return run.returncode, run.stdout

    def test_nothing_missing_is_silent(self):
        self.assertEqual(self.run_script("printf installed", "exit 9", 1000), (0, ""))

    def test_neither_root_nor_sudo_says_what_root_must_type(self):
        code, text = self.run_script(NOTHING_INSTALLED, "exit 9", 1000)
        self.assertEqual(code, 2)
        self.assertIn("neither root nor is sudo here", text)
        self.assertIn("  apt-get install --no-install-recommends g++ cmake ", text)

    def test_without_mpi_alone_it_goes_on(self):
        code, text = self.run_script(ONLY_MPI_MISSING, "exit 9", 1000)
        self.assertEqual(code, 0)
        self.assertIn("going on without libopenmpi-dev openmpi-bin (mpirun)", text)

    def test_another_apt_is_waited_for(self):
        code, text = self.run_script(
            NOTHING_INSTALLED, f'[ -e {self.folder}/slept ] && exit 0; echo "E: Could not get lock /var/lib/x"; exit 100')
        self.assertEqual(code, 0, text)
        self.assertIn("another package manager is at work; waiting for it (attempt 1 of 30)", text)

    def test_without_a_network_it_ends_with_an_error(self):
        self.program("apt-cache", "exit 1")
        code, text = self.run_script(NOTHING_INSTALLED, 'echo "E: Failed to fetch"; exit 100')
        self.assertEqual(code, 2)
        self.assertIn("apt does not know cmake: is there a network?", text)
        self.assertFalse((self.folder / "slept").exists())

    def test_another_distribution_is_told_what_is_needed(self):
        code, text = self.run_script()
        self.assertEqual(code, 0)
        self.assertIn("this is no Debian or Ubuntu", text)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
