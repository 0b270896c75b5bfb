"""How a refusal at the door looks: one answer for the stranger, the reason for the owner."""

from isthmus.base.errors import Code, Hop, HubError, Refusal


def unauthorized(rule: str, value: str, remedy: str, hop: Hop = Hop.AUTHENTICATION) -> HubError:
    """The one answer of the door (401002, `Unauthorized`), whatever the reason; the reason goes to the journal only."""
    return denied(Refusal(hop, rule, value, remedy))


def denied(refusal: Refusal) -> HubError:
    """As `unauthorized`, of a refusal that somebody else has worded."""
    return HubError(Code.UNAUTHORIZED_ACCESS, "Unauthorized", refusal)
