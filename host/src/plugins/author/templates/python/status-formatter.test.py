import unittest

import rules


class Rules(unittest.TestCase):
    def test_a_deployed_lab_is_named(self):
        self.assertEqual(rules.deployed(rules.read_settings("{}"), "ospf"), "ospf is ready")

    def test_a_misspelt_setting_is_named(self):
        with self.assertRaisesRegex(ValueError, "deploied"):
            rules.read_settings('{"deploied": ""}')


if __name__ == "__main__":
    unittest.main()
