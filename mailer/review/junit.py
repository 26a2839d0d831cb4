"""Lint reports in the JUnit format that CI systems read."""

from __future__ import annotations

from xml.etree import ElementTree

from mailer.rendering.lint import CHECKS, Finding, Level, LintReport


def junit(report: LintReport, *, strict: bool) -> str:
    """Return the report as a JUnit test suite: a case for each finding, and for each check without one.

    A finding that fails the command is a failure, any other goes to `system-out`, and a waived one is
    skipped.
    """
    cases: list[ElementTree.Element] = []
    failures = 0
    for finding in report.findings:
        case = _case(finding.check, finding)
        text = f"{finding.place}: {finding.message}\n{finding.remedy}"
        if finding.level is Level.ERROR or (strict and finding.level is Level.WARNING):
            failures += 1
            failure = ElementTree.SubElement(
                case, "failure", {"message": finding.message, "type": finding.level.value}
            )
            failure.text = text
        else:
            ElementTree.SubElement(case, "system-out").text = f"{finding.level.value}: {text}"
        cases.append(case)
    for finding, reason in report.ignored:
        case = _case(finding.check, finding)
        ElementTree.SubElement(case, "skipped", {"message": f"{finding.message} (waived: {reason})"})
        cases.append(case)
    named = {case.get("name") for case in cases}
    cases += [_case(check) for check in CHECKS if check not in named]
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": f"mailer lint {report.slug}",
            "tests": str(len(cases)),
            "failures": str(failures),
            "errors": "0",
            "skipped": str(len(report.ignored)),
        },
    )
    suite.extend(cases)
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode")


def _case(check: str, finding: Finding | None = None) -> ElementTree.Element:
    attributes = {"classname": "mailer.lint", "name": check}
    if finding is not None and finding.file:
        attributes["file"] = finding.file
        if finding.line is not None:
            attributes["line"] = str(finding.line)
    return ElementTree.Element("testcase", attributes)
