"""What a command says when it cannot do what it was asked."""


class CommandError(Exception):
    """One sentence for standard error, without a trace; the command ends with `code`."""

    code = 1


class NotThereYet(CommandError):  # noqa: N818 - a state of the product, not a fault
    """Exists in `az` and not here; the command ends with code 2."""

    code = 2


class NotJudged(CommandError):  # noqa: N818 - a state of the files, not a fault
    """A check that could not be made, which is neither a good nor a bad result; the command ends with code 2."""

    code = 2


class NoServer(CommandError):  # noqa: N818 - a state of the machine, not a fault
    """No server runs on the data folder."""
