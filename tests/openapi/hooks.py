"""What schemathesis is told of this server beyond the document and schemathesis.toml."""

from schemathesis.specs.openapi import checks

# An access token that is none is 498 here; clients know what to do then.
checks.AUTH_REJECTION_STATUSES = frozenset(checks.AUTH_REJECTION_STATUSES) | {498}
