"""{{summary}}.

It stands behind another policy: it knows nobody, and allows whatever it isn't about. This file is what the host sees; what it decides is in `rules.py`, which imports
nothing of WebAssembly, so that any Python can test it. `wit_world` is made from the contract when the plugin is built.
See `wit/README.md`.
"""

from componentize_py_types import Err
from wit_world.exports import Lifecycle as LifecycleInterface
from wit_world.exports import Policy as PolicyInterface
from wit_world.exports.lifecycle import Description
from wit_world.exports.policy import Action_Command, Denial

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


class Policy(PolicyInterface):
    def identify(self, claims):
        return None

    def authorize(self, user, action, circumstances):
        if not isinstance(action, Action_Command):
            return
        request = action.value
        message = rules.decide(settings, user.admin, request.kind.name, request.lab.collection.name)
        if message is not None:
            raise Err(Denial(rule="protected", message=message))
