"""What lets people's schedules fire: a group for them in EventBridge Scheduler, its role, its
dead letters. The schedules themselves are made by the application (schedules/eventbridge.py)."""

from __future__ import annotations

from typing import Any

Resource = dict[str, Any]

#: Resources of the functions that make, change and delete schedules. No other function gets these
#: variables: run_schedule would name itself, which CloudFormation cannot resolve.
MANAGERS = ("APIHandler", "WatchSchedules")
VARIABLES: dict[str, Resource] = {
    "SCHEDULE_GROUP": {"Ref": "ScheduleGroup"},
    "SCHEDULE_FUNCTION_ARN": {"Fn::GetAtt": ["RunSchedule", "Arn"]},
    "SCHEDULE_ROLE_ARN": {"Fn::GetAtt": ["SchedulerRole", "Arn"]},
    "SCHEDULE_DEAD_LETTER_ARN": {"Fn::GetAtt": ["ScheduleFailureQueue", "Arn"]},
}

_SCHEDULES = "arn:${AWS::Partition}:scheduler:${AWS::Region}:${AWS::AccountId}:schedule"


def resources() -> dict[str, Resource]:
    """Beside the queue of firings that never got through (storage.py)."""
    return {
        # Deleted with the stack, and every schedule in it.
        "ScheduleGroup": {"Type": "AWS::Scheduler::ScheduleGroup", "Properties": {}},
        "SchedulerRole": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "scheduler.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                            # Not for the schedules of somebody else's account.
                            "Condition": {
                                "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
                            },
                        }
                    ],
                },
                "Policies": [
                    {
                        "PolicyName": "FireSchedules",
                        "PolicyDocument": {
                            "Version": "2012-10-17",
                            "Statement": [
                                {
                                    "Effect": "Allow",
                                    "Action": ["lambda:InvokeFunction"],
                                    "Resource": [{"Fn::GetAtt": ["RunSchedule", "Arn"]}],
                                },
                                {
                                    "Effect": "Allow",
                                    "Action": ["sqs:SendMessage"],
                                    "Resource": [{"Fn::GetAtt": ["ScheduleFailureQueue", "Arn"]}],
                                },
                            ],
                        },
                    }
                ],
            },
        },
    }


def statements() -> list[dict[str, Any]]:
    """What a manager may do: schedules of this group, with this role and for Scheduler only."""
    return [
        {
            "Effect": "Allow",
            "Action": [
                "scheduler:CreateSchedule",
                "scheduler:UpdateSchedule",
                "scheduler:DeleteSchedule",
            ],
            "Resource": [{"Fn::Sub": f"{_SCHEDULES}/${{ScheduleGroup}}/*"}],
        },
        {
            "Effect": "Allow",
            "Action": ["iam:PassRole"],
            "Resource": [{"Fn::GetAtt": ["SchedulerRole", "Arn"]}],
            "Condition": {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}},
        },
    ]
