"""How large the deployment package is, unzipped and zipped."""

from __future__ import annotations

from benchmarks.packaged import built
from benchmarks.report import Report, verdict
from infra.archive import unzipped_bytes
from infra.package import LARGEST_MB


def measure() -> Report:
    archive = built().archive
    unzipped = unzipped_bytes(archive) / 1e6
    report = Report("zip_size: the deployment package", ("what", "MB", "budget", "verdict"))
    report.add("unzipped", f"{unzipped:.1f}", f"<= {LARGEST_MB}", verdict(unzipped, LARGEST_MB))
    report.add("zipped", f"{archive.stat().st_size / 1e6:.1f}", "", "")
    report.remarks.append("built for this machine, compiled modules included; MB are 10^6 bytes")
    return report
