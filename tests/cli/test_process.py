"""The client as a person runs it: its own process, a real server, real signals and pipes."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

from tests.cli.fake_api import STATUS, TASK_ID, FakeApi, serve, task

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(api):
    with serve(api, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def client(url, *args, **options):
    environ = {**os.environ, "DATA_COLLECTOR_URL": url, "PYTHONPATH": str(ROOT)}
    # A proxy from the environment must not be asked for this machine.
    environ |= {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    # A test run that was itself started in the background ignores Ctrl-C, and so would its
    # children; a signal with a handler is back at its default after exec.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "market_data_collector.cli", *args],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
    finally:
        signal.signal(signal.SIGINT, ours)


def test_a_real_server_is_asked_past_any_proxy():
    with serving(FakeApi()) as url, client(url, "status", "--json") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out) == STATUS


def test_ctrl_c_leaves_the_task_running():
    api = FakeApi({"GET /task": [task("running", 3)]})
    with serving(api) as url, client(url, "task", TASK_ID, "--wait") as process:
        assert "running" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert f"data-collector task {TASK_ID} --wait" in err
    assert "Traceback" not in err
    assert {request.method for request in api.requests} == {"GET"}


def test_a_reader_that_goes_away_is_no_traceback():
    # Gone before the first byte: a pipe left later may have had room for all of the output.
    for args in (["symbols"], ["stats", "--json"], ["--help"], ["nonsense", "--json"]):
        with serving(FakeApi()) as url, client(url, *args) as process:
            process.stdout.close()
            err = process.stderr.read()
            process.wait(timeout=60)
        assert process.returncode == 141
        assert "Broken" not in err
        assert "Traceback" not in err


def test_a_terminal_that_knows_only_ascii_is_no_traceback():
    with serving(FakeApi({"GET /status": [{"status": "idle"}]})) as url:
        os.environ["PYTHONIOENCODING"] = "ascii"
        try:
            with client(url, "status") as process:
                out, err = process.communicate(timeout=60)
        finally:
            del os.environ["PYTHONIOENCODING"]
    assert (process.returncode, err) == (0, "")
    assert "Rate budget  ? of ? left" in out
