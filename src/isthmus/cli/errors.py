"""What a command says when it cannot do what it was asked."""


class CommandError(Exception):
    """One sentence for standard error, without a trace; the command ends with code 1."""


class NotThereYet(CommandError):  # noqa: N818 - a state of the product, not a fault
    """Exists in `az` and not here; the command ends with code 2."""


class NoServer(CommandError):  # noqa: N818 - a state of the machine, not a fault
    """No server runs on the data folder."""
