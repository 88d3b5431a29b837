"""What the plugin says."""

import json


def read_settings(text):
    """Reads the operator's settings; a ValueError is a sentence for the operator."""
    settings = {"deployed": "{lab} is ready"}
    for key, value in json.loads(text).items():
        if key != "deployed":
            raise ValueError(f'unknown setting "{key}"; there is "deployed"')
        if not isinstance(value, str):
            raise ValueError('"deployed" has to be a text')
        settings["deployed"] = value
    return settings


def deployed(settings, name):
    """What people read when a lab is up."""
    return settings["deployed"].replace("{lab}", name)
