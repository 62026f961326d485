"""What the stock operators hand to the stock S3 hook (``s3_extra_args``), as far as it says how a bucket is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from airflow_provider_skyplane.hooks.scopes import Scope
    from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
    from skyplane_core.model import StoreConfig

_KNOWN = ("region_name", "config", "requester_pays")
_NO_MEANING = ("transfer_config_args",)
"""Tunes boto3's own threads, which move nothing here."""


@dataclasses.dataclass(frozen=True)
class S3HookArgs:
    """The arguments that have a meaning here."""

    region_name: str | None = None
    config: Any = None
    requester_pays: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any], argument: str, *, ignored: tuple[str, ...] = ()) -> S3HookArgs:
        """Those of ``given``, which is the operator's ``argument``.

        Args:
            ignored: names that the stock operator takes and makes nothing of.

        Raises:
            TypeError: one that the stock hook does not take from the operator either.
        """
        unknown = given.keys() - {*_KNOWN, *_NO_MEANING, *ignored}
        if unknown:
            raise TypeError(
                f"{argument} has {', '.join(sorted(unknown))}; of the S3 hook's arguments it takes "
                f"{', '.join((*_KNOWN, *_NO_MEANING, *ignored))}"
            )
        return cls(**{name: value for name, value in given.items() if name in _KNOWN})

    def store(
        self, hook: SkyplaneHook, scope: Scope, aws_conn_id: str | None, *, verify: bool | str | None
    ) -> StoreConfig:
        """The bucket of ``scope``, reached with these arguments."""
        config = hook.s3(
            scope.bucket,
            aws_conn_id,
            scope=scope,
            region_name=self.region_name,
            verify=verify,
            botocore_config=self.config,
        )
        return msgspec.structs.replace(config, requester_pays=self.requester_pays)
