"""Every test runs in an empty folder, without the caller's environment."""

import pytest


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "DATA_COLLECTOR_URL",
        "DATA_COLLECTOR_KEY",
        "XDG_CONFIG_HOME",
        "NO_COLOR",
        "FORCE_COLOR",
        "TTY_COMPATIBLE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "25")
