"""The life of a lab, driven by python-socketio and the REST API: log in, create, deploy, log, updates, status messages,
shell with traffic, errors, close, destroy.

    python spine.py URL USER PASSWORD MEMBER_TOKEN TOPOLOGY MODE

MEMBER_TOKEN belongs to somebody of the collection `course` who is no administrator; TOPOLOGY is the file of the two
routers. MODE is what carries the packets: `websocket`, `polling`, or `upgrade` from the one to the other. Ends with
status 0 when everything was as documented; otherwise with a traceback that says what was not.
"""

import asyncio
import functools
import json
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

import aiohttp
import engineio.payload
import socketio

LIMIT = 60
TRANSPORTS = {"websocket": ["websocket"], "polling": ["polling"], "upgrade": None}
UNKNOWN = "01890000-0000-7000-8000-000000000000"

# A server may answer a poll with all that it has; this client refuses more than 16 packets at once unless told so.
engineio.payload.Payload.max_decode_packets = 1000


async def within(what, awaitable):
    try:
        return await asyncio.wait_for(awaitable, LIMIT)
    except asyncio.TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


class Person:
    """Somebody with a token. This client joins namespaces only while it connects, so that each join is a connection."""

    def __init__(self, url, token, mode):
        self.url, self.token, self.mode = url, token, mode
        self.namespaces = []

    async def join(self, *paths):
        joined = Namespaces(self, paths)
        refusals = await joined.connect({"token": self.token})
        assert not any(refusals), refusals
        self.namespaces.append(joined)
        return joined

    async def try_join(self, path, auth):
        """A namespace, or the server's words to somebody who is not let in."""
        joined = Namespaces(self, [path])
        (refusal,) = await joined.connect(auth)
        if refusal is None:
            self.namespaces.append(joined)
        return joined, refusal

    async def leave(self):
        for joined in self.namespaces:
            # By polling, this client doesn't send that it leaves, and then waits for the answer to its last poll, which
            # is the next ping.
            if joined.client.transport() == "websocket":
                await joined.client.disconnect()


class Namespaces:
    """Namespaces on one connection, and everything that came in them, from before they were joined."""

    def __init__(self, person, paths):
        self.person = person
        self.client = socketio.AsyncClient(reconnection=False)
        self.events = {path: [] for path in paths}
        self.more = asyncio.Event()

    async def connect(self, auth):
        """Joins all of them; answers for each what the server said to a refusal, or None."""
        outcomes = []
        for path in self.events:
            outcome = asyncio.get_running_loop().create_future()
            outcomes.append(outcome)
            self.client.on("*", self.recorder(path), namespace=path)
            self.client.on("connect", functools.partial(outcome.set_result, None), namespace=path)
            self.client.on("connect_error", lambda data, o=outcome: o.set_result(data["message"]), namespace=path)
        # Waited for here: this client itself leaves after a refusal, which takes it long by polling, as in `leave`.
        mode = self.person.mode
        await self.client.connect(
            self.person.url, auth=auth, namespaces=list(self.events), transports=TRANSPORTS[mode], wait=False
        )
        assert self.client.transport() == ("polling" if mode == "polling" else "websocket"), self.client.transport()
        return await within(f"an answer to the joining of {list(self.events)}", asyncio.gather(*outcomes))

    def recorder(self, path):
        def record(event, *arguments):
            self.events[path].append((event, *arguments))
            self.more.set()

        return record

    async def until(self, what, found):
        async def wait():
            while not found():
                self.more.clear()
                await self.more.wait()

        await within(what, wait())

    async def call(self, path, *arguments):
        return await self.client.call("data", tuple(arguments), namespace=path, timeout=LIMIT)

    def texts(self, path):
        """What a namespace with history has brought: one backlog, then data."""
        (first, backlog), *later = self.events[path] or [("backlog", [])]
        assert first == "backlog", first
        assert all(name == "data" for name, _ in later), later
        return backlog + [text for _, text in later]


class Rest:
    def __init__(self, session, url):
        self.session, self.url, self.headers = session, url, {}

    async def log_in(self, user, password):
        async with self.session.post(
            f"{self.url}/users/login/native", json={"username": user, "password": password}
        ) as answer:
            assert answer.status == 200, await answer.text()
            token = answer.cookies["accessToken"].value
        self.headers = {"Authorization": f"Bearer {token}"}
        return token

    async def request(self, method, path, body=None):
        async with self.session.request(method, self.url + path, json=body, headers=self.headers) as answer:
            assert answer.status == 200, f"{method} {path}: {answer.status} {await answer.text()}"
            return (await answer.json())["payload"]


async def drive(url, user, password, member_token, topology, mode):
    async with aiohttp.ClientSession() as session:
        rest = Rest(session, url)
        admin = Person(url, await rest.log_in(user, password), mode)
        member = Person(url, member_token, mode)
        collection = await rest.request(
            "POST", "/collections", {"name": "course", "publicWrite": True, "publicDeploy": True}
        )
        definition = Path(topology).read_text()
        topology = await rest.request(
            "POST", "/topologies", {"collectionId": collection, "definition": definition, "syncUrl": ""}
        )
        start = datetime.now(timezone.utc).isoformat()
        lab = await rest.request(
            "POST", "/labs", {"name": "lab", "topologyId": topology, "startTime": start, "endTime": None}
        )
        await refusals(admin, lab)
        await life(rest, admin, member, lab)
        await admin.leave()
        await member.leave()


async def refusals(admin, lab):
    for path, auth, words in [
        ("/lab-updates", {}, "Unauthorized"),
        ("/status-messages", {"token": "nonsense"}, "Invalid Token"),
        (f"/logs/{lab}", {"token": admin.token}, "Invalid namespace"),
    ]:
        _, refusal = await admin.try_join(path, auth)
        assert refusal == words, f"{path}: {refusal}"


async def life(rest, admin, member, lab):
    news = await admin.join("/lab-updates", "/status-messages", "/shell-commands")
    commands = await admin.join("/lab-commands")

    async def command(number, who=commands, **more):
        return await who.call("/lab-commands", {"labId": lab, "command": number, **more})

    def refused(code, answer):
        assert sorted(answer) == ["code", "message"] and answer["code"] == code and answer["message"], answer

    # There is no instance yet.
    refused(5003, await command(6, node="r1"))

    updates = news.events["/lab-updates"]
    # As the deployed web client sends it: a string of JSON.
    deploying = asyncio.create_task(commands.call("/lab-commands", json.dumps({"labId": lab, "command": 0})))
    # Joined while it is being deployed: the backlog has what came before, and the rest comes as it is printed.
    log = await join_log(admin, news, updates, lab)
    assert await within("the deploy", deploying) == {"payload": None}
    path = f"/logs/{lab}"
    for node in ["r1", "r2"]:
        await log.until(f"what {node} prints", lambda: any(f"its host name is {node}" in t for t in log.texts(path)))
    once = [text for text in log.texts(path) if "its host name is r1" in text]
    assert len(once) == 1, once
    late = await admin.join(path)
    await late.until("a backlog", lambda: late.events[path])
    assert [name for name, _ in late.events[path]] == ["backlog"], "nothing is printed any more"
    assert late.texts(path) == log.texts(path)
    assert (await rest.request("GET", f"/labs/{lab}"))["instance"]["state"] == 1

    statuses = news.events["/status-messages"]
    await news.until("a success", lambda: any(message["payload"]["severity"] == 0 for _, message in statuses))
    for name, message in statuses:
        status = message["payload"]
        assert name == "data" and status["severity"] in range(5), message
        assert all(isinstance(status[key], str) for key in ["id", "source", "content", "logContent"]), message
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z$", status["timestamp"]), message

    await shell(admin, news, command, lab)

    theirs = await member.join("/lab-commands")
    refused(5403, await command(1, theirs))
    refused(5005, await commands.call("/lab-commands", {"labId": UNKNOWN, "command": 0}))
    refused(5006, await command(6, node="r3"))
    refused(5007, await command(7, shellId=UNKNOWN))
    for malformed in [("not JSON",), ({"command": 0},), ({"labId": lab, "command": 99},), (b"\x00\xff",), ()]:
        await commands.client.emit("data", malformed, namespace="/lab-commands")
        refused(5422, await commands.call("/lab-commands", *malformed))

    before = len(updates)
    # And as the specification shows it: an object.
    assert await command(1) == {"payload": None}
    await news.until("an update about the end", lambda: len(updates) > before)
    assert all(message == {"payload": {"labId": lab}} for _, message in updates), updates
    assert "instance" not in await rest.request("GET", f"/labs/{lab}")


async def join_log(admin, news, updates, lab):
    """Whoever hears of the instance can join its log: at one of the updates at the latest."""
    heard = 0
    while True:
        heard += 1
        await news.until("an update about the lab", lambda: len(updates) >= heard)
        log, refusal = await admin.try_join(f"/logs/{lab}", {"token": admin.token})
        if refusal is None:
            return log
        # It was an update about the lab's creation.
        assert refusal == "Invalid namespace", refusal


async def shell(admin, news, command, lab):
    shell_id = (await command(6, node="r1"))["payload"]
    assert isinstance(shell_id, str)
    path = f"/shells/{shell_id}"
    terminal = await admin.join(path)
    # A terminal echoes what is typed, so each answer is framed by something that was not typed like this.
    typed = 'echo "name=$(hostname)"; ping -c 2 -i 0.2 10.0.0.2; '
    await terminal.client.emit("data", typed, namespace=path)
    # Bytes are taken too.
    await terminal.client.emit("data", b'echo "status=$?"\r', namespace=path)
    screen = lambda: "".join(terminal.texts(path))
    await terminal.until("the answer of r2", lambda: re.search(r"status=\d", screen()))
    for part in ["status=0", "name=r1\r\n", "2 received"]:
        assert part in screen(), screen()
    assert await command(5) == {"payload": [{"id": shell_id, "node": "r1"}]}
    assert await command(7, shellId=shell_id) == {"payload": None}
    announced = news.events["/shell-commands"]
    await news.until("the announcement of the closed shell", lambda: announced)
    ((name, message),) = announced
    closed = message["payload"]
    assert name == "data"
    assert [closed[key] for key in ["labId", "node", "shellId", "command"]] == [lab, "r1", shell_id, 1], closed
    assert await command(5) == {"payload": []}


if __name__ == "__main__":
    asyncio.run(drive(*sys.argv[1:]))
