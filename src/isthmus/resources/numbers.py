"""Numbers of resources: one counter for hubs, neighbours and whatever else has a place of its own in log or state.

A number is drawn by raising the counter in the same commit that uses it, so none is ever given twice.
"""

import msgspec

from isthmus.base.ids import HubId
from isthmus.base.state import MUST_NOT_EXIST, NO_HUB, Key, Put, State

COUNTER = Key("meta", NO_HUB, "hub-number")


async def draw(state: State) -> tuple[HubId, Put]:
    """The next number, and the change that takes it: of the commit that uses the number, the first one.

    Whoever else draws meanwhile makes that commit fail with a `Conflict` of this change.
    """
    stored = await state.get(COUNTER)
    last = msgspec.json.decode(stored.body, type=dict[str, int])["last"] if stored else 0
    number = HubId(last + 1)
    return number, Put(COUNTER, msgspec.json.encode({"last": number}), stored.revision if stored else MUST_NOT_EXIST)
