"""What a figure hands back: the picture and what is to be said about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Drawing:
    """`drawn` says which rows are drawn and what stands where, `marks` how to read them, `left_out` what is not drawn and
    why (empty: nothing); all of it is read from the rows themselves. `layout` is the choice of axes, None for figures
    that draw all there is.
    """

    picture: object
    drawn: str
    marks: str = ""
    left_out: str = ""
    layout: object = None

    @property
    def caption(self):
        return " ".join(filter(None, [self.drawn, self.marks, self.left_out]))

    @property
    def note(self):
        """The caption for a terminal: which rows are drawn and which are not."""
        return " ".join(filter(None, [self.drawn, self.left_out]))
