"""The embedded AWS: MiniStack in the background, on loopback only, in an environment of its own.

It pins another botocore than the functions, hence the second virtual environment. It runs the
functions as processes of its own interpreter, so both environments come from the same Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from itertools import count
from pathlib import Path

from infra.package import Package
from local.aws import DUMMY_CREDENTIALS
from local.failures import StartFailed
from local.install import InstallFailed, Progress, install
from local.layout import CLOUD, read_object, write_whole
from local.processes import Process, marked, start, stop
from local.scratch import CODE, JOURNAL, SAVED, scratch, tidy

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-cloud"
EMULATOR = ROOT / "local" / "emulator.py"
#: Long, for a machine that is busy with something else.
READY_WITHIN_S = 120
#: The folder of its state, below `home`.
STATE = "state"
#: Arguments that say what it keeps beside its state, in its working directory, `home`.
FILES = ("--saved", SAVED, "--journal", JOURNAL)
_QUEUE_URL = re.compile(r"http://127\.0\.0\.1:([0-9]+)/[0-9]{12}/")
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
    scratch(home).mkdir(parents=True)
    log = home / "cloud.log"
    arguments = ["-P", str(EMULATOR), "--port", str(port), *FILES]
    command = [str(python), *marked(CLOUD, home), *arguments]
    process = start(command, _environ(home, port, environ), home, log)
    deadline = time.monotonic() + READY_WITHIN_S
    while not is_ready(endpoint_url(port)):
        if not process.is_running() or time.monotonic() > deadline:
            stop(process)
            raise StartFailed(f"The embedded cloud did not start; its log ends:\n{tail(log)}")
        time.sleep(0.1)
    return process


def save(process: Process) -> None:
    """Let MiniStack write its state now; it goes on meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGUSR1)


@dataclass(frozen=True)
class Saved:
    """What a MiniStack that has ended left behind."""

    #: When its state was saved, ISO 8601 UTC; None: never.
    at: str | None
    #: Whether that was its end; otherwise it was killed, and later changes are lost.
    in_order: bool


def saved(home: Path) -> Saved | None:
    """None where no MiniStack ever ran."""
    if not (home / SAVED).exists():
        return None
    content = read_object(home / SAVED)
    at = content.get("at")
    return Saved(at if isinstance(at, str) else None, content.get("in_order") is True)


def put_damaged_aside(home: Path) -> Path | None:
    """Where MiniStack's state went, because a file of it cannot be read; None: it is whole.

    MiniStack would go on without that file: with a stack, for example, that has no tables.
    """
    state = home / STATE
    if all("payload" in read_object(file) for file in state.glob("*.json")):
        return None
    names = (state.with_name(f"{STATE}-damaged-{number}") for number in count(1))
    aside = next(name for name in names if not name.exists())
    state.rename(aside)
    return aside


def readdress(home: Path, port: int) -> None:
    """Make the kept state that of a MiniStack at `port`: queues keep the URL they were made with,
    and the functions have it in their environment."""
    queues = home / STATE / "sqs.json"
    if not queues.exists():
        return
    found = set(_QUEUE_URL.findall(queues.read_text(encoding="utf-8")))
    # The queues are last: whoever goes on after an interruption still finds the old port there.
    files = sorted((home / STATE).glob("*.json"), key=lambda file: (file == queues, file))
    for old in found - {str(port)}:
        for file in files:
            content = file.read_text(encoding="utf-8")
            changed = re.sub(rf"127\.0\.0\.1:{old}(?![0-9])", f"127.0.0.1:{port}", content)
            if changed != content:
                write_whole(file, changed)


def rewind_streams(home: Path) -> None:
    """Have the kept event sources read their tables' streams from the beginning.

    MiniStack keeps how many records each has read, but not the records: after a start it would pass
    over as many new ones.
    """
    file = home / STATE / "lambda.json"
    kept = read_object(file)
    payload = kept.get("payload")
    if isinstance(payload, dict) and payload.pop("dynamodb_stream_positions", None):
        write_whole(file, json.dumps(kept))


def unpacked(built: Package, home: Path) -> Package:
    """`built`, unpacked once for all functions, and a package that runs it from there.

    MiniStack unpacks a function's zip for each of its processes: 83 MB and a second of work each
    time. So its zip holds one line that goes on in the folder. Everything else is the package's.
    """
    content = built.archive.read_bytes()
    folder = home / CODE / hashlib.sha256(content).hexdigest()[:16]
    if not folder.exists():
        scratch = folder.with_name(folder.name + ".part")
        shutil.rmtree(scratch, ignore_errors=True)
        with zipfile.ZipFile(built.archive) as archive:
            archive.extractall(scratch)
        scratch.rename(folder)
    os.utime(folder)
    short = Package(built.folder / "unpacked")
    short.folder.mkdir(exist_ok=True)
    shutil.copyfile(built.template, short.template)
    # A module may replace itself while it is imported; the importer gets the new one.
    line = "import sys; sys.path.insert(0, {!r}); del sys.modules['app']; import app\n"
    with zipfile.ZipFile(short.archive, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), line.format(str(folder)))
    return short


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


def _environ(home: Path, port: int, environ: Mapping[str, str]) -> dict[str, str]:
    passed = {name: environ[name] for name in (*_PASSED_ON, *_PROXIES) if name in environ}
    return {
        **_roots(),
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
        # Relative to its working directory, `home`: a folder that is moved takes its state along.
        "STATE_DIR": STATE,
        "S3_PERSIST": "1",
        "S3_DATA_DIR": "s3",
        # Listeners of services that nothing here uses, on all interfaces or on fixed ports.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "TMPDIR": str(scratch(home)),
        "LOG_LEVEL": "WARNING",
        "PYTHONUNBUFFERED": "1",
    }


def _roots() -> dict[str, str]:
    """TLS's roots for functions that ask a live exchange: this machine's, and not the package's,
    because a network may have one of its own. A Python from python.org has none on macOS; the
    client's library brings some."""
    import certifi  # here, not above: who only ends a stack may have no library

    found = ssl.get_default_verify_paths()
    told = {"SSL_CERT_FILE": found.cafile, "SSL_CERT_DIR": found.capath}
    return {name: at for name, at in told.items() if at} or {"SSL_CERT_FILE": certifi.where()}


def _health(url: str) -> bool:
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=2) as answer:
            return isinstance(json.load(answer), dict)
    except (OSError, HTTPException, ValueError):
        return False


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-300:]
        raise StartFailed(f"the environment of the embedded cloud cannot be made: {said}")
