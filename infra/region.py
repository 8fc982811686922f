"""The region of whoever deploys."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.exceptions import BotoCoreError
from botocore.session import Session


class RegionUnknown(Exception):
    """The message says in one sentence what to set."""


def region(environ: Mapping[str, str]) -> str | None:
    """AWS_REGION, AWS_DEFAULT_REGION, or the region of the chosen profile: the first that is there.

    An SDK for Python reads AWS_DEFAULT_REGION alone, the others AWS_REGION; a profile is chosen by
    AWS_PROFILE, or is the one called default. Source: AWS SDKs and Tools Reference Guide, "AWS
    Region". Raises RegionUnknown where the profile cannot be read.
    """
    found = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if found:
        return found
    try:
        in_profile = Session(profile=environ.get("AWS_PROFILE")).get_config_variable("region")
    except BotoCoreError as error:
        raise RegionUnknown(f"The region cannot be read from the AWS profile: {error}.") from error
    return str(in_profile) if in_profile else None
