"""Making a container: what no transfer does unless it is asked to."""

from __future__ import annotations

import contextlib

from skyplane_core.errors import BucketNotFound, StoreUnavailable
from skyplane_core.model import StoreConfig
from skyplane_core.stores.azure_calls import AzureCalls
from skyplane_core.stores.azure_errors import code_of


def make_container(config: StoreConfig) -> None:
    """Make the container that ``config`` names, private, if it is not there.

    Raises:
        PermissionDenied: the credentials may not; a SAS token needs to be the account's, with the right to create.
        StoreError: any other refusal, or no answer.
    """
    calls = AzureCalls(config)
    what = "cannot create the container"
    with contextlib.closing(calls.open_http()) as http:
        try:
            answer = http.send(calls.request("PUT", calls.target(restype="container")))
        except StoreUnavailable as error:
            raise calls.unreachable(error, what) from error
    if answer.status >= 300 and code_of(answer) != "ContainerAlreadyExists":
        raise calls.refused(answer, what, missing=BucketNotFound)
