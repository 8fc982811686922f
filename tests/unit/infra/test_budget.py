"""A budget mails before a month costs more; none is there unless it is set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.environ import from_environ
from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.settings import Settings
from infra.configuration import environment
from infra.template import build
from local.deploy import adapt_for_embedded

MAIL = "me@example.com"


def budgets(**environ: str) -> list[dict[str, Any]]:
    resources = build(environment("dev", environ))["Resources"]
    return [each for each in resources.values() if each.get("Type") == "AWS::Budgets::Budget"]


def test_there_is_no_budget_unless_one_is_set() -> None:
    assert budgets() == budgets(ALARM_EMAIL=MAIL) == []


@given(st.integers(1, 1_000_000))
def test_the_budget_is_the_setting_and_mails_before_and_when_it_is_spent(dollars: int) -> None:
    [made] = budgets(MONTHLY_BUDGET_DOLLARS=str(dollars), ALARM_EMAIL=MAIL)
    budget = made["Properties"]["Budget"]
    assert budget["BudgetLimit"] == {"Amount": dollars, "Unit": "USD"}
    assert (budget["BudgetType"], budget["TimeUnit"]) == ("COST", "MONTHLY")
    mails = made["Properties"]["NotificationsWithSubscribers"]
    assert all(
        mail["Subscribers"] == [{"SubscriptionType": "EMAIL", "Address": MAIL}] for mail in mails
    )
    kinds = {(m["Notification"]["NotificationType"], m["Notification"]["Threshold"]) for m in mails}
    assert kinds == {("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100)}
    assert len(mails) <= 5


@pytest.mark.parametrize("dollars", ["-1", "1000001", "ten", "1.5"])
def test_a_budget_that_cannot_be_is_refused_by_its_name(dollars: str) -> None:
    with pytest.raises(SettingsInvalid, match="MONTHLY_BUDGET_DOLLARS"):
        from_environ({"MONTHLY_BUDGET_DOLLARS": dollars, "ALARM_EMAIL": MAIL})


def test_a_budget_without_an_address_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="set ALARM_EMAIL"):
        Settings(monthly_budget_dollars=1)


def test_the_linter_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    made = budgets(MONTHLY_BUDGET_DOLLARS="50", ALARM_EMAIL=MAIL)
    file = tmp_path / "template.json"
    file.write_text(json.dumps({"Resources": {"MonthlyBudget": made[0]}}))
    linter = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run(
        [str(linter), "--regions", "us-east-1", "--", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_embedded_cloud_which_costs_nothing_is_given_none() -> None:
    [made] = budgets(MONTHLY_BUDGET_DOLLARS="50", ALARM_EMAIL=MAIL)
    template = {"Resources": {"MonthlyBudget": made}}
    adapt_for_embedded(template, "http://127.0.0.1:4566")
    assert template["Resources"] == {}
