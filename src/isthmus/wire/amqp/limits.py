"""Every bound of the AMQP engine, with its reason and what happens there."""

FRAME_BYTES_MAX = 65_536
"""Largest frame taken and announced, as IoT Hub announces it; a larger one closes the connection (framing-error)."""

FRAME_BYTES_OUT_MAX = 1_048_576
"""Largest frame sent, however large the peer allows; longer messages are sent in several transfers."""

FRAME_BYTES_MIN = 512
"""Smallest max-frame-size a peer may announce (AMQP 1.0 §2.7.1, MIN-MAX-FRAME-SIZE); a smaller one closes."""

SASL_FRAME_BYTES_MAX = 8_192
"""Largest SASL frame taken: room for a token as PLAIN password, which §5.3.1's 512 bytes would not hold."""

SASL_PENDING_BYTES_MAX = 1_048_576
"""Bytes kept while credentials are checked; the reader is paused meanwhile, so more than a read closes."""

CHANNEL_MAX = 1_023
"""Highest channel number: 1,024 sessions, 1,000 multiplexed devices with one session each fit; higher closes."""

HANDLE_MAX = 8_191
"""Highest link handle of a session; a higher one closes the connection (framing-error)."""

LINKS_MAX = 8_192
"""Links of a connection, so 1,000 multiplexed devices with eight links each; the next is refused.

Refused links count until the peer detaches them; at twice as many the connection is closed.
"""

INCOMING_WINDOW = 5_000
"""Transfers a peer may send before it hears a new session window, as IoT Hub announces it."""

WINDOW_REFRESH = 2_000
"""After so many incoming transfers the session window is announced again, so that it is never used up."""

OUTGOING_WINDOW = 4_294_967_295
"""Announced outgoing window: we send what the peer's incoming window and credit allow and nothing else binds us."""

LINK_CREDIT = 1_000
"""Credit granted to a sender right after attach, as IoT Hub does; the application tops it up."""

MESSAGE_BYTES_MAX = 1_048_576
"""Largest message taken on a link; a larger unsettled one is rejected, a settled one detaches the link."""

PARTIAL_BYTES_MAX = 8 * 1_048_576
"""Bytes of unfinished multi-frame deliveries of a connection; above it the connection is closed."""

UNSETTLED_BYTES_MAX = 8 * 1_048_576
"""Bytes of received and unsettled deliveries of a connection; above it `Connection.paused` stops the reader."""

UNSETTLED_DELIVERIES_MAX = 16_384
"""As `UNSETTLED_BYTES_MAX`, in deliveries; a tenth of a second's worth at the highest rates."""

HELD_DELIVERIES_MAX = 256
"""Deliveries pipelined behind an attach the application has not answered; the next one detaches the link."""

UNSETTLED_OUT_MAX = 4_096
"""Sent and unsettled deliveries of a session; at the limit nothing can be sent until the peer settles.

A short frame can name all of them, so the number bounds what a frame can cost.
"""

TAG_BYTES_MAX = 32
"""Longest delivery tag (AMQP 1.0 §2.8.7)."""

NAME_CHARACTERS_MAX = 1_024
"""Longest link name taken; a longer one closes the connection."""

DEPTH_MAX = 16
"""Deepest nesting of an AMQP value; a filter in a source in an attach needs five."""

ITEMS_MAX = 65_536
"""Elements of one decoded value, all levels together: bounds what a small value can make us allocate."""

HANDSHAKE_SECONDS_MAX = 30.0
"""From the first moment to the peer's open; a slower peer is closed."""

CLOSE_SECONDS_MAX = 5.0
"""How long the peer's close is awaited after ours; then the connection is finished all the same."""

IDLE_TIMEOUT_MS = 240_000
"""Idle time-out announced to peers, as IoT Hub announces it; silence of twice as long closes (§2.4.5)."""

IDLE_TIMEOUT_MS_MIN = 1_000
"""Shortest idle time-out a peer may ask of us; a shorter one closes the connection."""

REDIRECT_DETACH_SECONDS = 0.1
"""Pause between the attach and the detach of a redirect; clients that read both at once miss the error."""
