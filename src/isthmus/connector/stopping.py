"""Why a connector cannot go on by itself."""


class CannotGoOn(Exception):  # noqa: N818 - a state, not a fault
    """Nothing that the connector may do by itself will help; the text is one sentence, with the remedy."""
