"""What the plugin decides."""

import json


def read_settings(text):
    """Reads the operator's settings; a ValueError is a sentence for the operator."""
    settings = {"max-shells": 5}
    for key, value in json.loads(text).items():
        if key != "max-shells":
            raise ValueError(f'unknown setting "{key}"; there is "max-shells"')
        if type(value) is not int or value < 0:
            raise ValueError('"max-shells" has to be a whole number')
        settings["max-shells"] = value
    return settings


def check(settings, kind, open_shells):
    """Why a command is not valid; None: it is."""
    most = settings["max-shells"]
    if kind != "OPEN_SHELL" or open_shells < most:
        return None
    return f"You have {open_shells} shells open, and may have {most}: close one first"
