"""The report: a diagnosis as one page that can be read, filtered, printed and sent on."""

from apiece.evaluate.report.page import write_report

__all__ = ["write_report"]
