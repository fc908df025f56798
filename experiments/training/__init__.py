"""Models trained from scratch on this project's kernels; README.md says what is asked of them and how."""
