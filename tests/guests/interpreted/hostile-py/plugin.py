"""An auth policy in Python that misbehaves as the user's id says. The tools are those of examples/plugins/german-py."""

from componentize_py_types import Err
from wit_world.exports import Lifecycle as LifecycleInterface
from wit_world.exports import Policy as PolicyInterface
from wit_world.exports.lifecycle import Description
from wit_world.exports.policy import Denial
from wit_world.imports import logging

calls = 0


def loop():
    while True:
        pass


def bomb():
    kept = []
    while True:
        kept.append(bytearray(1 << 20))


def recurse():
    def deeper(n):
        return deeper(n + 1) + 1

    deeper(0)


def number():
    # One operation that takes for ever, within the interpreter.
    return 3 ** (10**9)


def fail():
    raise RuntimeError("on purpose")


def answer():
    raise Err(Denial(rule="long", message="x" * (2 << 20)))


def nonsense():
    raise Err(7)


def log():
    for n in range(1000):
        logging.log(logging.Level.INFO, f"line {n} of far too many")


def count():
    global calls
    calls += 1
    raise Err(Denial(rule="count", message=str(calls)))


WAYS = {way.__name__: way for way in (loop, bomb, recurse, number, fail, answer, nonsense, log, count)}


class Lifecycle(LifecycleInterface):
    def describe(self):
        return Description(name="hostile-py", version="0.1.0", summary="Misbehaves as the name of the user says")

    def configure(self, settings):
        return None


class Policy(PolicyInterface):
    def identify(self, claims):
        return None

    def authorize(self, user, action, circumstances):
        if way := WAYS.get(user.id):
            way()
