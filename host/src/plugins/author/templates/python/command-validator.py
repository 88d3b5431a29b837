"""{{summary}}.

A validator passes on what it has nothing to say about. This file is what the host sees; what it decides is in `rules.py`, which imports
nothing of WebAssembly, so that any Python can test it. `wit_world` is made from the contract when the plugin is built.
See `wit/README.md`.
"""

from componentize_py_types import Err
from wit_world.exports import Lifecycle as LifecycleInterface
from wit_world.exports import Validator as ValidatorInterface
from wit_world.exports.lifecycle import Description
from wit_world.exports.validator import Rejection, RejectionCode

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


class Validator(ValidatorInterface):
    def validate(self, command, context):
        message = rules.check(settings, command.kind.name, context.circumstances.open_shells)
        if message is not None:
            raise Err(Rejection(code=RejectionCode.SHELL_LIMIT, rule="max-shells", message=message))
        return command
