"""Ports: whose a taken one is, and one that is remembered."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.ports import free_port, is_free, remembered, trouble
from tests.local.conftest import Begin

LISTEN = """
import pathlib, socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[3])))
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_of_another_program_is_named_with_one_that_is_free(taken: int) -> None:
    said = trouble(taken)
    assert said is not None
    assert said.startswith(f"Port {taken} is taken by another program: end that, or choose another")
    assert is_free(int(said.rpartition("PORT=")[2].rstrip("`.")))


def test_a_port_of_another_checkouts_stack_is_named_with_its_folder(
    home: Path, begin: Begin
) -> None:
    port = free_port()
    begin(home, "gateway", LISTEN, "--port", str(port))
    said = trouble(port)
    assert said is not None
    assert f"taken by the stack in {home.parent}: `make down` there ends that" in said


def test_a_port_of_a_stack_whose_folder_is_gone_is_named_with_its_process(
    home: Path, begin: Begin
) -> None:
    port = free_port()
    process = begin(home, "gateway", LISTEN, "--port", str(port))
    home.rename(home.with_name("gone"))
    assert f"`kill {process.pid}` ends that" in str(trouble(port))
    home.with_name("gone").rename(home)


def test_a_free_port_is_no_trouble_and_is_remembered(tmp_path: Path) -> None:
    said: list[str] = []
    port = remembered(tmp_path / "ports.json", "cloud", said.append)
    assert trouble(port) is None
    assert remembered(tmp_path / "ports.json", "cloud", said.append) == port
    assert remembered(tmp_path / "ports.json", "exchange", said.append) != port
    assert said == []


def test_a_remembered_port_that_is_taken_is_said_and_replaced(tmp_path: Path, taken: int) -> None:
    file = tmp_path / "ports.json"
    file.write_text(json.dumps({"cloud": taken}))
    said: list[str] = []
    port = remembered(file, "cloud", said.append)
    assert said == [f"port {taken} is not free any more; the cloud gets {port}"]
    assert json.loads(file.read_text()) == {"cloud": port}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.lists(each), max_leaves=3
)


@given(content=st.binary() | st.dictionaries(st.just("cloud"), JSON).map(json.dumps) | JSON)
@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_a_damaged_file_costs_the_port_alone(tmp_path: Path, content: object) -> None:
    file = tmp_path / "ports.json"
    raw = content if isinstance(content, bytes) else str(content).encode(errors="replace")
    file.write_bytes(raw)
    assert is_free(remembered(file, "cloud", lambda line: None))
