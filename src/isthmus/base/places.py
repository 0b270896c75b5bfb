"""What lies where in a data folder, for the server that writes it and the command line that finds it."""

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
