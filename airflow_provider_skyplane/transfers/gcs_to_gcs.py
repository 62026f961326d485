"""A drop-in for the Google provider's ``GCSToGCSOperator``. Imports no cloud provider and no SDK at parse time."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_skyplane.compat import AirflowException, AirflowProviderDeprecationWarning
from airflow_provider_skyplane.transfers.drop_in import OWN_TEMPLATE_FIELDS, SkyplaneDropIn
from airflow_provider_skyplane.transfers.gcs_ends import gcs_destination, gcs_source
from airflow_provider_skyplane.transfers.gcs_picks import (
    WILDCARD,
    Wanted,
    Window,
    as_listed_now,
    onto_itself,
    rank,
    within_itself,
)
from airflow_provider_skyplane.transfers.gcs_url import dataset_name
from skyplane_core.errors import NothingToTransfer, ObjectNotFound
from skyplane_core.keys import select, source_prefix
from skyplane_core.model import Compression, StoreConfig
from skyplane_core.spec import Compare, KeyMapping, MappingKind, ReceiptLine, Selection, TransferOptions
from skyplane_core.units import counted

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context
    from airflow_provider_skyplane.engine import Location, Request
    from airflow_provider_skyplane.finished import Finished
    from skyplane_core.stores.base import ObjectStore

# The stock operator's own words, so that a filter on these warnings goes on working.
_DEPRECATED = (
    "Usage of wildcard (*) in '{}' is deprecated, utilize 'match_glob' instead. Planned removal date: October 5, 2026."
)
_DELIMITER = (
    "Usage of 'delimiter' is deprecated, please use 'match_glob' instead. Planned removal date: October 5, 2026."
)
_DELIMITER_OF_A_LISTING = _DELIMITER.replace("'delimiter' is", "'delimiter' param is")
_RETENTION_MODES = ("Locked", "Unlocked")


class SkyplaneGCSToGCSOperator(SkyplaneDropIn):
    """Copies or moves objects within Google Cloud Storage: by GCS itself where it can, otherwise through a gateway.

    Takes every argument of the stock ``GCSToGCSOperator`` with the same meaning and default; ``docs/migrating.md``
    lists where it differs on purpose. What is new is opt-in: ``return_summary`` (:class:`SkyplaneDropIn`),
    ``deferrable`` and the other arguments of :class:`SkyplaneBaseOperator`. Returns the ``gs://`` URIs of the copies,
    those of each of ``source_objects`` together and sorted by the names of their sources, without folder markers.
    """

    template_fields: Sequence[str] = (
        "source_bucket",
        "source_object",
        "source_objects",
        "destination_bucket",
        "destination_object",
        "delimiter",
        "impersonation_chain",
        "match_glob",
        "gcp_conn_id",
        *OWN_TEMPLATE_FIELDS,
    )
    ui_color = "#f0eee4"
    destination_service = "Google Cloud Storage"

    def __init__(
        self,
        *,
        source_bucket: str,
        source_object: str | None = None,
        source_objects: Sequence[str] | None = None,
        destination_bucket: str | None = None,
        destination_object: str | None = None,
        delimiter: str | None = None,
        move_object: bool = False,
        replace: bool = True,
        gcp_conn_id: str = "google_cloud_default",
        last_modified_time: datetime.datetime | None = None,
        maximum_modified_time: datetime.datetime | None = None,
        is_older_than: float | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        source_object_required: bool = False,
        exact_match: bool = False,
        match_glob: str | None = None,
        retain_until_time: datetime.datetime | None = None,
        retention_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source_bucket = source_bucket
        self.source_object = source_object
        self.source_objects = source_objects
        self.destination_bucket = destination_bucket
        self.destination_object = destination_object
        self.delimiter = delimiter
        self.move_object = move_object
        self.replace = replace
        self.gcp_conn_id = gcp_conn_id
        self.last_modified_time = last_modified_time
        self.maximum_modified_time = maximum_modified_time
        self.is_older_than = is_older_than
        self.impersonation_chain = impersonation_chain
        self.source_object_required = source_object_required
        self.exact_match = exact_match
        self.match_glob = match_glob
        self.retain_until_time = retain_until_time
        self.retention_mode = retention_mode
        self._again = False

    def execute(self, context: Context) -> Any:
        """Copy or move what has to be, and return the copies' URIs, or defer and let execute_complete do so."""
        self._warn()
        self._again = _is_again(context)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """See :meth:`SkyplaneBaseOperator.execute_complete`."""
        self._again = _is_again(context)
        return super().execute_complete(context, event)

    def _warn(self) -> None:
        said = []
        if self.source_object and WILDCARD in self.source_object:
            said.append(_DEPRECATED.format("source_object"))
        if self.source_objects and any(WILDCARD in name for name in self.source_objects):
            said.append(_DEPRECATED.format("source_objects"))
        if self.delimiter:
            said.append(_DELIMITER)
        ends = [name.split(WILDCARD, 1)[1] for name in self._asked() if name.count(WILDCARD) == 1]
        if any(end not in ("", "/") for end in (*ends, self.delimiter or "")):
            said.append(_DELIMITER_OF_A_LISTING)
        for text in said:
            warnings.warn(text, AirflowProviderDeprecationWarning, stacklevel=3)

    def _check(self) -> None:
        if self.source_objects and self.source_object:
            raise AirflowException(
                "You can either set source_object parameter or source_objects parameter but not both. "
                f"Found source_object={self.source_object} and source_objects={self.source_objects}"
            )
        if not self.source_object and not self.source_objects:
            raise AirflowException("You must set source_object parameter or source_objects parameter. None set")
        if not all(isinstance(name, str) for name in self._asked()):
            raise AirflowException("At least, one of the `objects` in the `source_objects` is not a string")
        if self._asked().count("") > 1:
            raise AirflowException("You can't have two empty strings inside source_object")
        for name in self._asked():
            if name.count(WILDCARD) > 1:
                raise AirflowException(
                    "Only one wildcard '*' is allowed in source_object parameter. "
                    f"Found {name.count(WILDCARD)} in {name}."
                )
        self._check_glob()
        if self.retain_until_time is not None and self.retention_mode not in (None, *_RETENTION_MODES):
            raise ValueError(f"retention_mode must be 'Locked' or 'Unlocked', got {self.retention_mode!r}.")
        if self.destination_bucket is None:
            self.log.warning("destination_bucket is None. Defaulting it to source_bucket (%s)", self.source_bucket)

    def _check_glob(self) -> None:
        plain = [name for name in self._asked() if WILDCARD not in name]
        if not self.match_glob or not plain:
            return
        if self.delimiter and self.delimiter != "/":
            raise AirflowException("'match_glob' param cannot be used with 'delimiter' that differs than '/'")
        if len(plain) < len(self._asked()):
            raise AirflowException(
                "match_glob does not apply to names with a wildcard, and would have to apply to the others of "
                "source_objects. Use two tasks."
            )

    def _asked(self) -> tuple[str, ...]:
        """The names and prefixes that are asked for."""
        return (self.source_object,) if self.source_object else tuple(self.source_objects or ())

    @property
    def _bucket(self) -> str:
        return self.source_bucket if self.destination_bucket is None else self.destination_bucket

    @property
    def _moves(self) -> bool:
        """Whether gateways delete at the source. What is to be retained is so before, from here, and so is that."""
        return self.move_object and self.retain_until_time is None

    def _request(self) -> Request:
        from airflow_provider_skyplane.engine import Location, Request

        name = self.destination_object or ""
        return Request(
            source=self._source,
            destination=lambda: Location(
                gcs_destination(
                    self.hook,
                    self._bucket,
                    self.gcp_conn_id,
                    self.impersonation_chain,
                    copies_from=self.source_bucket,
                ),
                name,
            ),
            options=TransferOptions(
                compare=Compare.ALWAYS if self.replace else Compare.NAME,
                compression=Compression(self.compression),
                record_source=False,
                move=self._moves,
            ),
            # What the stores say of them comes with settling; the receipt's place must not depend on it.
            selection=Selection(""),
            mapping=KeyMapping(MappingKind.APPEND, "", name),
            state=name[: name.rfind("/") + 1],
            settle=self._settled,
            receipt=self._receipt(f"gs://{self._bucket}", {"gcs": self.gcp_conn_id}, self.impersonation_chain),
        )

    def _source(self) -> Location:
        wildcards = any(WILDCARD in name for name in self._asked())
        glob = None if wildcards else self.match_glob
        return gcs_source(
            self.hook,
            self.source_bucket,
            self.gcp_conn_id,
            self.impersonation_chain,
            match_glob=glob,
            moved=self._moves,
        )

    def _settled(self, request: Request) -> Request:
        wanted = Wanted(
            self.source_bucket,
            self._asked(),
            self.destination_object,
            "" if self.match_glob else self.delimiter or "",
            exact=self.exact_match,
            required=self.source_object_required,
        )
        window = Window(self.is_older_than, self.last_modified_time, self.maximum_modified_time)
        times = window.filters(datetime.datetime.now(tz=datetime.timezone.utc))
        if times.modified_before is not None and times.modified_since >= times.modified_before:
            raise NothingToTransfer("no time of modification is both after the one and before the other")
        with _opened(self._source().store) as source:
            picks = wanted.picks(source, times)
            if self._bucket == self.source_bucket:
                if (name := onto_itself(picks, source)) is not None:
                    raise ValueError(
                        "Either source/destination bucket or source/destination object must be different, "
                        f"not both the same: bucket={self.source_bucket}, object={name}"
                    )
                if within_itself(picks):
                    picks = [as_listed_now(pick, source) for pick in picks]
        if not picks:
            raise NothingToTransfer("nothing in the bucket is what source_objects asks for")
        # Not in the request that a retry is known by: an earlier try may have copied what this one finds there.
        options = msgspec.structs.replace(request.options, move_same=request.options.move and self._again)
        return dataclasses.replace(
            request, options=options, selection=picks[0].selection, mapping=picks[0].mapping, also=tuple(picks[1:])
        )

    def _result(self, finished: Finished) -> Any:
        if self.retain_until_time is not None:
            self._retain(finished.transfer_id, self.retain_until_time)
        return super()._result(finished)

    def _retain(self, transfer_id: str, until: datetime.datetime) -> None:
        from airflow_provider_skyplane.transfers.gcs_retention import Retention, retain

        request = self._request()
        count = retain(
            self.hook.engine.receipt(request, transfer_id),
            Retention(until, locked=self.retention_mode == "Locked"),
            self.hook.gcs(self.source_bucket, self.gcp_conn_id, self.impersonation_chain),
            self.hook.gcs(self._bucket, self.gcp_conn_id, self.impersonation_chain),
            same=self._again,
            moves=self.move_object,
        )
        self.log.info("Retained %s until %s", counted(count, "object"), until)

    def _names(self, copied: Sequence[ReceiptLine]) -> list[str]:
        named = self._asked()
        ranked = sorted(copied, key=lambda line: (rank(named, line.key), line.key))
        uris = dict.fromkeys(f"gs://{self._bucket}/{line.destination_key}" for line in ranked)
        return [uri for uri in uris if not uri.endswith("/")]

    def get_openlineage_facets_on_start(self) -> Any:
        """The same datasets as the stock operator's, which tells them in the end."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        inputs = [dataset_name(name) for name in self._asked()]
        outputs = inputs if self.destination_object is None else [dataset_name(self.destination_object)]
        return OperatorLineage(
            inputs=[Dataset(namespace=f"gs://{self.source_bucket}", name=name) for name in sorted(set(inputs))],
            outputs=[Dataset(namespace=f"gs://{self._bucket}", name=name) for name in sorted(set(outputs))],
        )


def _is_again(context: Context) -> bool:
    """Whether an earlier try of the task may have copied something. Outside of a task run there is none."""
    number: Any = context["ti"].try_number if context and "ti" in context else 1
    # Somebody's own test may pass a mock for it.
    return isinstance(number, int) and number > 1


class _Opened:
    """A :class:`~airflow_provider_skyplane.transfers.gcs_picks.Source` on an open store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def listed(self, selection: Selection, after: str = "") -> Iterator[str]:
        listing = self._store.list(source_prefix(selection), start_after=after, delimiter=selection.delimiter)
        return (info.key for info in select(selection, listing))

    def exists(self, key: str) -> bool:
        try:
            self._store.head(key)
        except ObjectNotFound:
            return False
        return True


@contextlib.contextmanager
def _opened(config: StoreConfig) -> Iterator[_Opened]:
    from skyplane_core.stores.registry import open_store

    with contextlib.closing(open_store(config)) as store:
        yield _Opened(store)


GCSToGCSOperator = SkyplaneGCSToGCSOperator
"""The stock operator's name, so that a DAG changes by one import line."""
