"""What lies where in a data folder, for the server that writes it and the command line that finds it."""

from fnmatch import fnmatchcase

MANAGEMENT_SOCKET = "management.sock"
"""The Unix socket of the management API, mode 0600."""

CA_CERTIFICATE = "tls/ca.pem"
"""The certificate of the hub's own certificate authority, for clients to trust."""

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
RESOURCE_GROUP = "isthmus"
"""What resource ids are made of unless somebody says otherwise."""

TENANT = "00000000-0000-0000-0000-000000000000"
"""The tenant of an installation's own identities; what tells installations apart is the issuer of their tokens."""

AUDIT_SIGNING_KEY = "audit/signing-key.pem"
AUDIT_PUBLIC_KEY = "audit/public-key.pem"
"""The key that signs the journal's heads (mode 0600), and its public half for whoever verifies them."""

SEALING_KEY = "sealing.key"
"""The sealing key of a data folder that was given none from elsewhere (mode 0600). In no backup."""

SEALING_RECORD = "sealing.json"
"""Which keys sealed a data folder, and where the key was found last; no secret."""

CONFIDENTIAL = (
    "tls/authority.pem",
    "tls/authority-until-*.pem",
    "tls/root.pem",
    "tls/server-*.pem",
    "tls/connector-authority.pem",
    AUDIT_SIGNING_KEY,
)
"""Files with a private key (patterns of `Path.glob`): each is sealed."""

NEVER_BACKED_UP = (SEALING_KEY, MANAGEMENT_SOCKET, "server.lock", "*.lock", "namespaces.added")
"""What no backup holds: the key to everything else in it, and what is of the machine or of a run (`fnmatch`)."""


def is_backed_up(name: str) -> bool:
    """Whether a file of a data folder, by its path in there with `/`, belongs into a backup."""
    return not any(fnmatchcase(name, pattern) for pattern in NEVER_BACKED_UP)
