"""Figures, a notebook and a page from a mobalab results file. Knows the file format and nothing else of mobalab."""
