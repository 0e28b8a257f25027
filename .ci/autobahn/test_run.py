"""Tests of the verdicts: a runner that cannot fail would prove nothing."""
import unittest

import run


def result(behavior="OK", close="OK"):
    return {"behavior": behavior, "behaviorClose": close}


class Judge(unittest.TestCase):
    def test_ok_and_informational_pass(self):
        cases = {"1.1.1": result(), "7.1.6": result("INFORMATIONAL", "INFORMATIONAL")}
        summary, failures = run.judge(cases, 2)
        self.assertEqual(summary, "2 cases: 1 OK, 1 INFORMATIONAL, 0 NON-STRICT, 0 FAILED")
        self.assertEqual(failures, [])

    def test_every_other_behavior_fails(self):
        for behavior in ["FAILED", "NON-STRICT", "UNIMPLEMENTED", "SOMETHING NEW"]:
            _, failures = run.judge({"6.4.1": result(behavior)}, 1)
            self.assertEqual(failures, [f"6.4.1: behavior {behavior}, close OK"])

    def test_every_other_close_fails(self):
        for close in ["FAILED", "NON-STRICT", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT"]:
            summary, failures = run.judge({"7.3.1": result("OK", close)}, 1)
            self.assertEqual(summary, "1 cases: 0 OK, 0 INFORMATIONAL, 0 NON-STRICT, 1 FAILED")
            self.assertEqual(failures, [f"7.3.1: behavior OK, close {close}"])

    def test_a_short_report_fails(self):
        summary, failures = run.judge({"1.1.1": result()}, 3)
        self.assertEqual(summary, "3 cases: 1 OK, 0 INFORMATIONAL, 0 NON-STRICT, 2 FAILED")
        self.assertEqual(failures, ["2 of 3 announced cases are not in the report"])

    def test_failures_come_in_the_order_of_the_cases(self):
        cases = {case: result("FAILED") for case in ["10.1.1", "9.1.1", "9.1.10", "9.1.2"]}
        _, failures = run.judge(cases, 4)
        self.assertEqual([line.split(":")[0] for line in failures], ["9.1.1", "9.1.2", "9.1.10", "10.1.1"])


class Parse(unittest.TestCase):
    def test_the_default_is_groups_1_to_10(self):
        arguments, command = run.parse(["client", "c", "--", "program", "--cases", "x"])
        self.assertEqual(arguments.cases, "1.*,2.*,3.*,4.*,5.*,6.*,7.*,8.*,9.*,10.*")
        self.assertEqual(command, ["program", "--cases", "x"])


if __name__ == "__main__":
    unittest.main()
