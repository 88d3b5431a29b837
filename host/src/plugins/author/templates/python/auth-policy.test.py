import unittest

import rules


class Rules(unittest.TestCase):
    def test_labs_of_a_protected_collection_are_for_administrators(self):
        settings = rules.read_settings("{}")
        self.assertIn("exam", rules.decide(settings, False, "DEPLOY", "exam"))
        self.assertIsNone(rules.decide(settings, True, "DEPLOY", "exam"))
        self.assertIsNone(rules.decide(settings, False, "DEPLOY", "course"))
        self.assertIsNone(rules.decide(settings, False, "LIST_SHELLS", "exam"))

    def test_a_misspelt_setting_is_named(self):
        with self.assertRaisesRegex(ValueError, "protectd"):
            rules.read_settings('{"protectd": []}')


if __name__ == "__main__":
    unittest.main()
