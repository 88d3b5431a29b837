"""The words. Events come as the contract has them: an object whose class is named after the case, with its record in
`value`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    source: str
    content: str
    log_content: str
    # Name of the severity in the contract.
    severity: str


LABS = "Laborverwaltung"
NODES = "Knotenverwaltung"
SHELLS = "Terminalverwaltung"

# What happened: what becomes of the lab, node or terminal, and how much that matters.
LAB = {
    "LabDeploying": ("wird gestartet", "INFO"),
    "LabDeployed": ("läuft", "SUCCESS"),
    "LabDeployFailed": ("konnte nicht gestartet werden", "ERROR"),
    "LabDeployCancelled": ("wurde beim Starten abgebrochen", "WARNING"),
    "LabDestroying": ("wird abgebaut", "INFO"),
    "LabDestroyed": ("wurde abgebaut", "SUCCESS"),
    "LabDestroyFailed": ("konnte nicht ganz abgebaut werden", "ERROR"),
    "LabMissed": ("hat seine Zeit verpasst, weil der Server nicht lief", "WARNING"),
    "LabRecovered": ("lief weiter, während der Server neu startete", "INFO"),
    "LabLost": ("läuft nicht mehr", "ERROR"),
}
NODE = {
    "NodeStarted": ("wurde gestartet", "SUCCESS"),
    "NodeStopped": ("wurde angehalten", "SUCCESS"),
    "NodeRestarted": ("wurde neu gestartet", "SUCCESS"),
    "NodeExited": ("hat sich von selbst beendet", "WARNING"),
    "NodeFailed": ("konnte nicht gestartet, angehalten oder neu gestartet werden", "ERROR"),
}
SHELL = {
    "ShellOpened": ("wurde geöffnet", "INFO"),
    "ShellClosed": ("wurde geschlossen", "INFO"),
    "ShellFailed": ("ist abgebrochen", "ERROR"),
}


def word(what, settings):
    """The message for an event; None: this module has no words for it."""
    case = type(what).__name__.removeprefix("Occurrence_")
    event = what.value
    if case in LAB:
        does, severity = LAB[case]
        subject, source, ids = f"Labor {event.lab.name}", LABS, lab_ids(event.lab)
    elif case in NODE:
        does, severity = NODE[case]
        subject, source = f"Knoten {event.node.name} des Labors {event.lab.name}", NODES
        ids = f"Knoten {event.node.name} der Art {event.node.kind}, {lab_ids(event.lab)}"
    elif case in SHELL:
        does, severity = SHELL[case]
        subject, source = f"Ein Terminal im Knoten {event.shell.node} des Labors {event.lab.name}", SHELLS
        ids = f"Terminal {event.shell.id} von {event.shell.owner}, {lab_ids(event.lab)}"
    else:
        return None
    content = f"{subject} {does}"
    # The reason is the runtime's own, in its own language.
    if reason := getattr(event, "reason", None):
        content += f": {reason}"
    by = f", durch {event.by}" if getattr(event, "by", None) else ""
    log_content = f"{content}{by} ({ids})"
    if detail := getattr(event, "detail", None):
        log_content += "\n" + shorten(detail, settings)
    return Message(source, content, log_content, severity)


def lab_ids(lab):
    return f"Labor {lab.id}, Sammlung {lab.collection.name}, angelegt von {lab.creator}"


def shorten(text, settings):
    """The end of a text, and how much of it was left out."""
    lines = text.strip("\n").split("\n")
    kept = lines[-settings.log_lines :] if settings.log_lines else []
    # Whole lines from the end, as many as there is room for; of a single long one, its end.
    room = settings.log_characters
    while kept and sum(len(line) + 1 for line in kept) - 1 > room:
        if len(kept) == 1:
            kept = ["…" + kept[0][-(room - 1) :]] if room > 1 else []
            break
        kept = kept[1:]
    left_out = len(lines) - len(kept)
    if left_out:
        kept.insert(0, f"… ({left_out} {'Zeile' if left_out == 1 else 'Zeilen'} ausgelassen)")
    return "\n".join(kept)
