import unittest

import rules


class Rules(unittest.TestCase):
    def test_one_shell_too_many_is_rejected_and_everything_else_is_not(self):
        settings = rules.read_settings('{"max-shells": 2}')
        self.assertIsNone(rules.check(settings, "OPEN_SHELL", 1))
        self.assertIn("close one", rules.check(settings, "OPEN_SHELL", 2))
        self.assertIsNone(rules.check(settings, "LIST_SHELLS", 2))

    def test_a_misspelt_setting_is_named(self):
        with self.assertRaisesRegex(ValueError, "max_shells.*max-shells"):
            rules.read_settings('{"max_shells": 1}')


if __name__ == "__main__":
    unittest.main()
