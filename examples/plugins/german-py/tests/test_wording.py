import sys
import unittest
from pathlib import Path
from types import SimpleNamespace as Record

sys.path.insert(0, str(Path(__file__).parent.parent))

import settings
import wording
from settings import Settings

LAB = Record(id="lab-1", name="ospf", collection=Record(name="course"), creator="ada")
NODE = Record(name="r1", kind="linux")
SHELL = Record(id="s-1", node="r1", owner="bob")


def occurrence(case, **value):
    return type(f"Occurrence_{case}", (), {"value": Record(lab=LAB, **value)})()


class Wording(unittest.TestCase):
    def test_a_lab_that_runs_is_a_success(self):
        message = wording.word(occurrence("LabDeployed", by="bob"), Settings())
        self.assertEqual(message.content, "Labor ospf läuft")
        self.assertEqual(message.severity, "SUCCESS")
        self.assertEqual(message.source, "Laborverwaltung")
        self.assertEqual(
            message.log_content, "Labor ospf läuft, durch bob (Labor lab-1, Sammlung course, angelegt von ada)"
        )

    def test_a_failure_has_its_reason_and_its_detail_is_for_the_log(self):
        what = occurrence("LabDeployFailed", by=None, reason="no space left", detail="one\ntwo\n")
        message = wording.word(what, Settings(log_lines=1))
        self.assertEqual(message.content, "Labor ospf konnte nicht gestartet werden: no space left")
        self.assertTrue(message.log_content.endswith("\n… (1 Zeile ausgelassen)\ntwo"), message.log_content)

    def test_every_case_has_words_and_names_its_lab(self):
        for cases, more in [
            (wording.LAB, {"by": None}),
            (wording.NODE, {"by": None, "node": NODE}),
            (wording.SHELL, {"shell": SHELL}),
        ]:
            for case in cases:
                message = wording.word(occurrence(case, **more), Settings())
                self.assertIn("ospf", message.content, case)
                self.assertIn("lab-1", message.log_content, case)
                self.assertNotIn("\n", message.content, case)

    def test_what_it_has_no_words_for_is_left_to_the_next(self):
        self.assertIsNone(wording.word(occurrence("LabPainted"), Settings()))


class Shortening(unittest.TestCase):
    def test_what_is_short_stays_as_it_is(self):
        self.assertEqual(wording.shorten("one\ntwo", Settings()), "one\ntwo")

    def test_the_end_is_kept(self):
        text = "\n".join(str(n) for n in range(100))
        self.assertEqual(wording.shorten(text, Settings(log_lines=2)), "… (98 Zeilen ausgelassen)\n98\n99")

    def test_long_lines_are_left_out_or_cut(self):
        settings = Settings(log_characters=10)
        self.assertEqual(wording.shorten("x" * 8 + "\n" + "y" * 8, settings), "… (1 Zeile ausgelassen)\nyyyyyyyy")
        self.assertEqual(wording.shorten("x" * 20, settings), "…" + "x" * 9)

    def test_nothing_is_kept_where_nothing_is_wanted(self):
        for nothing in [Settings(log_lines=0), Settings(log_characters=0)]:
            self.assertEqual(wording.shorten("one\ntwo", nothing), "… (2 Zeilen ausgelassen)")


class Reading(unittest.TestCase):
    def test_nothing_said_means_the_defaults(self):
        self.assertEqual(settings.read("{}"), Settings())

    def test_settings_are_read(self):
        self.assertEqual(settings.read('{"log-lines": 3, "log-characters": 0}'), Settings(3, 0))

    def test_what_is_wrong_is_named(self):
        for text, name in [
            ('{"log-line": 3}', "`log-line`"),
            ('{"log-lines": true}', "`log-lines`"),
            ('{"log-lines": -1}', "`log-lines`"),
            ('{"log-characters": "3"}', "`log-characters`"),
            ("[]", "mapping"),
        ]:
            with self.assertRaises(settings.Wrong) as caught:
                settings.read(text)
            self.assertIn(name, str(caught.exception))


if __name__ == "__main__":
    unittest.main()
