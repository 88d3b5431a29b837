"""A status formatter that words messages in German and keeps what goes to the log short.

This file is what the host sees: the two interfaces that the world `status-formatter` exports, as classes of their names.
What they answer is in `wording.py` and `settings.py`, which import nothing of WebAssembly, so that any Python can test
them. `wit_world` is made by componentize-py from the contract; `antimony-host plugin build` has it do so.
"""

from componentize_py_types import Err
from wit_world.exports import Formatter as FormatterInterface
from wit_world.exports import Lifecycle as LifecycleInterface
from wit_world.exports.formatter import Severity, Status
from wit_world.exports.lifecycle import Description

import settings
import wording

# `configure` replaces it, once; every call starts from there.
active = settings.Settings()


class Lifecycle(LifecycleInterface):
    def describe(self):
        return Description(
            name="german-py",
            version="0.1.0",
            summary="Words status messages in German and shortens what goes to the log",
        )

    def configure(self, text):
        global active
        try:
            active = settings.read(text)
        except settings.Wrong as wrong:
            raise Err(str(wrong)) from None


class Formatter(FormatterInterface):
    def format(self, event):
        message = wording.word(event.what, active)
        if message is None:
            # Something that this plugin has no words for is left to the next one.
            return None
        return Status(
            source=message.source,
            content=message.content,
            log_content=message.log_content,
            severity=Severity[message.severity],
        )
