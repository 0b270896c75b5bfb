"""Whether a way is alive, from answers that come or do not. Pure."""

LOST_MAX = 3
"""Echoes without an answer, one after another, until a way counts as dead: below a second at the watch's pace."""

ANSWERED_MIN = 3
"""Answers, one after another, until a dead way counts as alive again, so that a way that flaps is not used."""


class Liveness:
    """One end's view of a way. It is dead until it has answered."""

    def __init__(self) -> None:
        self.alive = False
        self._run = 0

    def heard(self, *, answered: bool) -> bool:
        """Takes the outcome of one echo; True when it has changed what the way counts as."""
        self._run = self._run + 1 if answered is not self.alive else 0
        if self._run < (LOST_MAX if self.alive else ANSWERED_MIN):
            return False
        self.alive, self._run = answered, 0
        return True
