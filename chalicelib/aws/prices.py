"""What AWS charges, in dollars: the one place where prices stand. Whoever changes one sets `AS_OF`.

Source: AWS price lists (aws.amazon.com/<service>/pricing), region us-east-1, on demand, without
taxes, volume discounts and the free tier.
"""

from __future__ import annotations

from collections.abc import Mapping

AS_OF = "2026-01"
REGION = "us-east-1"
SOURCE = "AWS price lists, on demand, without taxes, discounts and the free tier"

API_REQUEST = 3.50 / 1e6
LAMBDA_REQUEST = 0.20 / 1e6
LAMBDA_GB_SECOND = 0.0000166667  # x86_64; on arm64 a fifth less
SQS_REQUEST = 0.40 / 1e6
DYNAMODB_WRITE_UNIT = 0.625 / 1e6
DYNAMODB_READ_UNIT = 0.125 / 1e6
S3_PUT = 5.00 / 1e6
S3_GET = 0.40 / 1e6
S3_GB_MONTH = 0.023

#: What is charged for a collection -> dollars for one.
OF: Mapping[str, float] = {
    "api_requests": API_REQUEST,
    "lambda_requests": LAMBDA_REQUEST,
    "lambda_gb_seconds": LAMBDA_GB_SECOND,
    "sqs_requests": SQS_REQUEST,
    "dynamodb_write_units": DYNAMODB_WRITE_UNIT,
    "dynamodb_read_units": DYNAMODB_READ_UNIT,
    "s3_puts": S3_PUT,
    "s3_gets": S3_GET,
}


def dollars(used: Mapping[str, float]) -> float:
    """What this much costs; names as in `OF`."""
    return sum(OF[name] * amount for name, amount in used.items())
