"""What the lab says when it cannot do what it was asked."""


class LabError(Exception):
    """One sentence for the person who runs the lab, with the remedy where there is one."""
