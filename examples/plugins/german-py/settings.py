"""The operator's settings."""

import json
from dataclasses import dataclass


class Wrong(Exception):
    """What is wrong with the settings, for the operator."""


@dataclass(frozen=True)
class Settings:
    # How much of a runtime's output is kept, counted from its end.
    log_lines: int = 20
    log_characters: int = 2000


KEYS = {"log-lines": "log_lines", "log-characters": "log_characters"}


def read(text):
    """Reads settings from JSON; raises Wrong."""
    given = json.loads(text)
    if not isinstance(given, dict):
        raise Wrong("settings have to be a mapping")
    values = {}
    for key, value in given.items():
        if key not in KEYS:
            known = ", ".join(f"`{known}`" for known in KEYS)
            raise Wrong(f"unknown key `{key}`; there are {known}")
        # In Python, True is a number as well.
        if type(value) is not int or value < 0:
            raise Wrong(f"`{key}` has to be a whole number that is not negative")
        values[KEYS[key]] = value
    return Settings(**values)
