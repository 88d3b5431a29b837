"""What the plugin decides."""

import json


def read_settings(text):
    """Reads the operator's settings; a ValueError is a sentence for the operator."""
    settings = {"protected": ["exam"]}
    for key, value in json.loads(text).items():
        if key != "protected":
            raise ValueError(f'unknown setting "{key}"; there is "protected"')
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ValueError('"protected" has to be a list of names of collections')
        settings["protected"] = value
    return settings


def decide(settings, admin, kind, collection):
    """Why somebody may not do that; None: they may."""
    if admin or kind not in ("DEPLOY", "DESTROY") or collection not in settings["protected"]:
        return None
    return f"Only administrators may do this with labs of the collection {collection}"
