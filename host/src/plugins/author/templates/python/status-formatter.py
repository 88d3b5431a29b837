"""{{summary}}.

A formatter leaves to the next one what it has no words for. This file is what the host sees; what it says is in `rules.py`, which imports
nothing of WebAssembly, so that any Python can test it. `wit_world` is made from the contract when the plugin is built.
See `wit/README.md`.
"""

from componentize_py_types import Err
from wit_world.exports import Formatter as FormatterInterface
from wit_world.exports import Lifecycle as LifecycleInterface
from wit_world.exports.formatter import Occurrence_LabDeployed, Severity, Status
from wit_world.exports.lifecycle import Description

import rules

# Replaced once, by `configure`; every call starts from there.
settings = rules.read_settings("{}")


class Lifecycle(LifecycleInterface):
    def describe(self):
        return Description(
            name="{{name}}",
            version="0.1.0",
            summary="{{summary}}",
        )

    def configure(self, text):
        global settings
        try:
            settings = rules.read_settings(text)
        except ValueError as wrong:
            raise Err(str(wrong)) from None


class Formatter(FormatterInterface):
    def format(self, event):
        if not isinstance(event.what, Occurrence_LabDeployed):
            return None
        lab = event.what.value.lab
        content = rules.deployed(settings, lab.name)
        return Status(
            source="Lab Manager",
            content=content,
            log_content=f"{content} (lab {lab.id})",
            severity=Severity.SUCCESS,
        )
