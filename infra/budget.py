"""A mail when the account's costs of a month come near what the operator means to spend.

To an address and not to the alarms' topic: AWS Budgets may only publish to a topic whose policy
names it, and a policy of its own takes the place of the one by which alarms may publish. Costs are
those of the account: by stack they could be told apart only once somebody has activated the cost
allocation tag `aws:cloudformation:stack-name`.

Without a name, which CloudFormation then makes: other mails take a replacement, and two budgets of
one name are refused. Sources: AWS CloudFormation Template Reference, AWS::Budgets::Budget; AWS Cost
Management User Guide, "Creating an Amazon SNS topic for budget notifications".
"""

from __future__ import annotations

from typing import Any

from chalicelib.core.settings import Settings

#: (what is compared, percent of the budget): AWS allows for five.
_MAILS = (("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100))


def resources(settings: Settings) -> dict[str, dict[str, Any]]:
    """The budget; nothing where none is set."""
    if not settings.monthly_budget_dollars:
        return {}
    return {
        "MonthlyBudget": {
            "Type": "AWS::Budgets::Budget",
            "Properties": {
                "Budget": {
                    "BudgetType": "COST",
                    "TimeUnit": "MONTHLY",
                    "BudgetLimit": {"Amount": settings.monthly_budget_dollars, "Unit": "USD"},
                },
                "NotificationsWithSubscribers": [
                    {
                        "Notification": {
                            "NotificationType": compared,
                            "ComparisonOperator": "GREATER_THAN",
                            "Threshold": percent,
                            "ThresholdType": "PERCENTAGE",
                        },
                        "Subscribers": [
                            {"SubscriptionType": "EMAIL", "Address": settings.alarm_email}
                        ],
                    }
                    for compared, percent in _MAILS
                ],
            },
        }
    }
