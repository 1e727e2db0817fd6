"""Noticing an input that has collapsed: what its encoder makes of it is the same for every row."""

from mmbert.evaluate.evaluator import Evaluation

LEAST = 1e-3  # spread over size, see ``evaluate.spread``; of fresh encoders it is .1 and more, of rounding 1e-6


class Collapse:
    """Names each collapsed input once, whatever the number of evaluations.

    >>> collapse = Collapse()
    >>> found = Evaluation({}, {}, {}, {}, {}, spread={"image": 0.2, "sound": 1e-6})
    >>> collapse.see(found), collapse.see(found)
    (['sound'], [])
    """

    def __init__(self):
        self._told: set[str] = set()

    def see(self, found: Evaluation) -> list[str]:
        """The inputs that are collapsed in this evaluation and were not before."""
        new = sorted(name for name, spread in found.spread.items() if spread < LEAST and name not in self._told)
        self._told.update(new)
        return new
