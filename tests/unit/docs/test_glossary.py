"""docs/GLOSSARY.md: its terms are in use, and what it says to avoid is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.package import ROOT
from tests.unit.docs.pages import PAGES, prose, text_of

GLOSSARY = text_of("docs/GLOSSARY.md")
TERMS_PART, AVOID_PART = GLOSSARY.split("## Words to avoid")
TERMS = re.findall(r"^\| (?!term )([A-Za-z ]+) \|", TERMS_PART, flags=re.M)
#: Words that have no other meaning here; the page's other ones (bar, pair, interval) may be right.
AVOIDED = ("job", "told", "landed", "kline", "granularity", "trading pair", "instrument")
OTHERS = [page for page in PAGES if page != ROOT / "docs" / "GLOSSARY.md"]


def _words(page: Path) -> str:
    """The prose of a page without names of code, links' targets and quotations, in lower case."""
    text = prose(page.read_text(encoding="utf-8"))
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", text)
    return re.sub(r"\s+", " ", text).lower()


EVERYTHING = " ".join(map(_words, OTHERS))


@pytest.mark.parametrize("term", TERMS)
def test_every_term_is_used_in_the_docs(term: str) -> None:
    assert re.search(rf"\b{re.escape(term.lower())}(s|es|ed)?\b", EVERYTHING)


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_uses_a_word_to_avoid(page: Path) -> None:
    words = _words(page)
    assert not [word for word in AVOIDED if re.search(rf"\b{word}s?\b", words)]


def test_what_is_looked_for_is_what_the_glossary_says_to_avoid() -> None:
    assert len(TERMS) > 50
    assert len(TERMS) == len(set(TERMS))
    for word in AVOIDED:
        assert word.split()[-1] in AVOID_PART
