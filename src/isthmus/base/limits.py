"""Named limits that more than one package needs; defaults are those of "IoT Hub quotas and throttling"."""

TELEMETRY_BYTES_MAX = 262_144
"""A device-to-cloud message: body, system property values, application property names and values."""

C2D_BYTES_MAX = 65_536
"""A cloud-to-device message."""

C2D_QUEUE_DEPTH_MAX = 50
"""Cloud-to-device messages waiting for one device; the next send is refused."""

FILE_UPLOADS_OPEN_MAX = 10
"""File uploads that one device may have under way ("File upload limits"); the next is refused."""

METHOD_BYTES_MAX = 131_072
"""A direct method's payload, each way."""

METHODS_IN_FLIGHT_MAX = 128
"""Direct methods waiting for one device's answer; the next invocation is refused."""

DEVICE_MESSAGES_PER_SECOND = 5_000
"""One device's telemetry, so that a bad one does not hurt the rest."""

DEVICES_PER_HUB_MAX = 1_000_000
"""Devices and modules of a hub."""

MODULES_PER_DEVICE_MAX = 50
"""Modules below one device."""

HUBS_MAX = 64
"""Hubs of one process."""

LOG_BACKLOG_BYTES_MAX = 64 * 1024 * 1024
"""Bytes taken by the log and not yet durable; above it the doors stop reading from devices."""
