"""What schemathesis is told of this server beyond the document and schemathesis.toml."""

import schemathesis
from schemathesis.specs.openapi import checks

# An access token that is none is 498 here; clients know what to do then.
checks.AUTH_REJECTION_STATUSES = frozenset(checks.AUTH_REJECTION_STATUSES) | {498}


@schemathesis.hook
def filter_case(_context, case):
    """An empty value in a query says nothing, whatever its schema wants; the document says so in words."""
    return not any(empty(value) for value in (case.query or {}).values())


def empty(value):
    return value == "" or isinstance(value, list) and (not value or any(empty(item) for item in value))
