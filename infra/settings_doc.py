"""The page of all settings: `python -m infra.settings_doc > docs/SETTINGS.md`."""

from __future__ import annotations

import sys
from dataclasses import fields

from chalicelib.core.settings import Settings
from infra.configuration import as_text, user_settings

_HEAD = """# Settings

Written by `python -m infra.settings_doc > docs/SETTINGS.md`; a test fails where it is out of date.

A setting is an environment variable of the functions. Set it in `settings.toml`, in lower case,
under `[default]` or a stage, or in the environment of whoever packages, which wins:

```toml
[prod]
retention_seconds = 86400
default_symbols = ["BTCUSDT", "ETHUSDT"]
```

`make run`, `make package` and `make deploy` refuse an unknown name in `settings.toml` and a value
that cannot work, with one sentence that names it. In an environment variable a list is
comma-separated, and a truth value is `true` or `false`.

| setting | default | bounds | meaning |
|---|---|---|---|
"""


def document() -> str:
    """The whole of docs/SETTINGS.md."""
    bounds = {setting.name.upper(): setting.metadata for setting in fields(Settings)}
    rows = []
    for name, default, about in user_settings():
        low, high = bounds[name]["low"], bounds[name]["high"]
        span = "" if low is None else f"{low} – {high}"
        value = f"`{as_text(default)}`" if as_text(default) else "(empty)"
        rows.append(f"| `{name}` | {value} | {span} | {about} |\n")
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(document())
