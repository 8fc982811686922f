"""Webhooks: what may be asked for."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.webhooks import webhook
from chalicelib.webhooks.webhook import parse, url_problem

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
GOOD = {"url": "https://hooks.acme.com/in?token=1", "secret": "x" * 24}
NAME = "hooks.acme.com"


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.acme.com",
        "https://hooks.acme.com:443/",
        "https://hooks.acme.com:1024/in?a=b&c=d",
        "https://hooks.acme.com:65535/in",
        "HTTPS://Hooks.Acme.com/in",
        "https://8.8.8.8/in",
        "https://[2606:4700:4700::1111]/in",
        "https://[2606:4700:4700::1111]:8443/in",
        "https://a.co/" + "x" * (2048 - len("https://a.co/")),
    ],
)
def test_public_https_urls_are_taken(url: str) -> None:
    assert url_problem(url, ()) == ""


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "",
        "hooks.acme.com",
        "//hooks.acme.com/in",
        "http://hooks.acme.com/in",
        "ftp://hooks.acme.com/in",
        "file:///etc/passwd",
        "gopher://hooks.acme.com/",
        "https://",
        "https:///in",
        "https://user@hooks.acme.com/in",
        "https://user:pass@hooks.acme.com/in",
        "https://@hooks.acme.com/in",
        "https://hooks.acme.com@127.0.0.1/in",
        "https://127.0.0.1#@hooks.acme.com/in",
        "https://hooks.acme.com/in#part",
        "https://127.0.0.1\\@hooks.acme.com/in",
        "https://hooks.acme.com:80/in",
        "https://hooks.acme.com:22/in",
        "https://hooks.acme.com:0/in",
        "https://hooks.acme.com:65536/in",
        "https://hooks.acme.com:x/in",
        "https://hooks.acme.com:-1/in",
        "https://127.0.0.1/in",
        "https://127.0.0.1:8443/in",
        "https://[::1]/in",
        "https://[::1]:8443/in",
        "https://[fd00:ec2::254]/latest/meta-data",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://localhost/in",
        "https://localhost.:8443/in",
        "https://①②⑦.⓪.⓪.①/",
        "https://hooks.acme.com/in\r\nx-evil: 1",
        "https://hooks.acme.com/in put",
        "https://hooks.acme.com/\x00",
        " https://hooks.acme.com/",
        "https://a.co/" + "x" * 2048,
    ],
)
def test_any_other_url_is_refused(url: object) -> None:
    assert url_problem(url, ())


@given(st.text(max_size=80))
def test_whatever_url_is_taken_leads_where_its_check_looked(text: str) -> None:
    for url in (text, "https://" + text, f"https://hooks.acme.com{text}"):
        if url_problem(url, ()):
            continue
        to = webhook.target(url)
        assert to.scheme == "https"
        assert to.port == 443 or to.port >= 1024
        assert "@" not in to.authority
        assert to.authority.lower().strip("[]").startswith(to.host)
        assert to.path.startswith("/")
        assert to.path.isascii()
        assert not set(" \r\n") & set(to.path + to.authority)


def test_only_the_very_host_and_port_of_the_setting_escape_the_rules() -> None:
    allowed = ("127.0.0.1:9999", "localhost:9998")
    assert url_problem("http://127.0.0.1:9999/in", allowed) == ""
    assert url_problem("http://localhost:9998/in", allowed) == ""
    for url in (
        "http://127.0.0.1:9998/in",
        "http://127.0.0.1/in",
        "http://127.1:9999/in",
        "http://localhost.:9998/in",
        "http://127.0.0.1:9999@acme.com/in",
        "ftp://127.0.0.1:9999/in",
        "https://192.168.0.1:9999/in",
    ):
        assert url_problem(url, allowed), url


def test_a_webhook_is_told_the_ends_unless_it_names_events() -> None:
    hook, problems = parse(GOOD, ())
    assert problems == []
    assert hook is not None
    assert hook.events == ("task.completed", "task.failed", "task.cancelled")
    assert hook.host == NAME
    hook, _ = parse({**GOOD, "events": ["task.started", "task.started", "task.failed"]}, ())
    assert hook is not None
    assert hook.events == ("task.started", "task.failed")


@pytest.mark.parametrize(
    ("value", "pointers"),
    [
        ("https://hooks.acme.com", [""]),
        (None, [""]),
        ([], [""]),
        ({}, ["/url", "/secret"]),
        ({**GOOD, "url": "http://hooks.acme.com"}, ["/url"]),
        ({**GOOD, "secret": "x" * 23}, ["/secret"]),
        ({**GOOD, "secret": "x" * 257}, ["/secret"]),
        ({**GOOD, "secret": "\n" + "x" * 30}, ["/secret"]),
        ({**GOOD, "secret": "ü" * 30}, ["/secret"]),
        ({**GOOD, "secret": 10**30}, ["/secret"]),
        ({**GOOD, "secret": "whsec_not*base64*at*all*"}, ["/secret"]),
        ({**GOOD, "events": []}, ["/events"]),
        ({**GOOD, "events": "task.completed"}, ["/events"]),
        ({**GOOD, "events": ["task.completed"] * 101}, ["/events"]),
        ({**GOOD, "events": ["nope", "task.completed", 7]}, ["/events/0", "/events/2"]),
        ({**GOOD, "events": ["webhook.failed", "task.expired"]}, ["/events/0", "/events/1"]),
        ({**GOOD, "a/b~c": 1}, ["/a~1b~0c"]),
    ],
)  # fmt: skip
def test_every_problem_of_a_webhook_is_named_by_its_pointer(
    value: object, pointers: list[str]
) -> None:
    hook, problems = parse(value, ())
    assert hook is None
    assert [pointer for _, pointer in problems] == pointers


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(st.sampled_from(["url", "secret", "events", "x"]), inner),
    max_leaves=8))  # fmt: skip
def test_no_json_value_breaks_the_check(value: object) -> None:
    hook, problems = parse(value, ())
    assert (hook is None) == bool(problems)


def test_neither_a_refusal_nor_a_printed_webhook_repeats_the_secret() -> None:
    secret = "s3cr3t-s3cr3t-s3cr3t-s3cr3t\x07"
    _, problems = parse({"url": f"https://{secret}", "secret": secret, "events": [secret]}, ())
    assert len(problems) == 3
    assert "s3cr3t" not in str(problems)
    hook, _ = parse(GOOD, ())
    assert "xxxx" not in repr(hook)
