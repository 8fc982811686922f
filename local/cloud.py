"""The embedded AWS: MiniStack in the background, on loopback only, in an environment of its own.

It pins another botocore than the functions, hence the second virtual environment. It runs the
functions as processes of its own interpreter, so both environments come from the same Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from local.aws import DUMMY_CREDENTIALS
from local.failures import StartFailed
from local.install import InstallFailed, Progress, install
from local.processes import Process, start

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-cloud"
READY_WITHIN_S = 60
#: What the emulator, and through it every function, may see of this shell. AWS_* is not among it:
#: functions must not find a real account, and settings come from the template alone.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


def ensure_environment(report: Callable[[str], None] = lambda line: None) -> Path:
    """The interpreter of MiniStack's environment, made where it is missing or outdated.

    Raises StartFailed.
    """
    requirements = ROOT / "requirements-cloud.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp, python = ENVIRONMENT / "made-from", ENVIRONMENT / "bin" / "python"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted and python.exists():
        return python
    report("installing the embedded cloud into .venv-cloud")
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(ENVIRONMENT)])
    try:
        install(python, ["--require-hashes", "-r", str(requirements)], Progress(report))
    except InstallFailed as failed:
        raise StartFailed(f"The embedded cloud is missing. {failed}") from failed
    stamp.write_text(wanted, encoding="utf-8")
    return python


def launch(home: Path, port: int, python: Path, environ: Mapping[str, str]) -> Process:
    """Start MiniStack with its state under `home`, and return when it answers.

    Raises StartFailed with the end of its log.
    """
    tidy(home)
    _scratch(home).mkdir(parents=True)
    log = home / "cloud.log"
    process = start([str(python), "-m", "ministack"], _environ(home, port, environ), home, log)
    deadline = time.monotonic() + READY_WITHIN_S
    while not is_ready(endpoint_url(port)):
        if not process.is_running() or time.monotonic() > deadline:
            raise StartFailed(f"the embedded cloud did not start; its log ends:\n{tail(log)}")
        time.sleep(0.1)
    return process


def tidy(home: Path) -> None:
    """Delete the unpacked functions, 100 MB for each of their processes, that an ended MiniStack
    leaves behind."""
    shutil.rmtree(_scratch(home), ignore_errors=True)


def endpoint_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def candles_dir(home: Path, bucket: str) -> Path:
    """Where the bucket's objects lie as plain files."""
    return home / "s3" / "000000000000" / bucket


def is_ready(endpoint: str) -> bool:
    """Whether a MiniStack answers there."""
    return _health(f"{endpoint}/_ministack/health")


def is_localstack(endpoint: str) -> bool:
    """Whether a LocalStack, or what answers like one, is there."""
    return _health(f"{endpoint}/_localstack/health")


def tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


def _scratch(home: Path) -> Path:
    return home / "tmp"


def _environ(home: Path, port: int, environ: Mapping[str, str]) -> dict[str, str]:
    passed = {name: environ[name] for name in (*_PASSED_ON, *_PROXIES) if name in environ}
    return {
        **passed,
        **DUMMY_CREDENTIALS,
        # Functions talk to each other's services here: no proxy in between.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        # What a role does not allow is refused, as on AWS.
        "AUTH": "true",
        "GATEWAY_PORT": str(port),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(home / "state"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(home / "s3"),
        "TMPDIR": str(_scratch(home)),
        "LOG_LEVEL": "WARNING",
        "PYTHONUNBUFFERED": "1",
    }


def _health(url: str) -> bool:
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=2) as answer:
            return isinstance(json.load(answer), dict)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-300:]
        raise StartFailed(f"the environment of the embedded cloud cannot be made: {said}")
