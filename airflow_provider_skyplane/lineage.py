"""What an operator tells OpenLineage, if its provider is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.openlineage.naming import dataset_name


class Lineage:
    """Mixed into an operator: datasets when it starts, and a facet of the run when it has ended."""

    _finished: Finished | None = None
    """How the transfer ended, in the process that has seen its end."""

    def _lineage_uris(self) -> tuple[Sequence[str], Sequence[str]]:
        """Sources and destinations, as rendered. A drop-in overrides get_openlineage_facets_on_start instead."""
        return (), ()

    def get_openlineage_facets_on_start(self) -> Any:
        """The datasets that are read and written."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        inputs, outputs = ([Dataset(*dataset_name(uri)) for uri in uris] for uris in self._lineage_uris())
        return OperatorLineage(inputs=inputs, outputs=outputs)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """The same datasets, and what became of the transfer."""
        del task_instance
        lineage = self.get_openlineage_facets_on_start()
        if self._finished is not None:
            from airflow_provider_skyplane.openlineage.facet import FACET_KEY, facet_of

            lineage.run_facets[FACET_KEY] = facet_of(self._finished)
        return lineage

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """As for one that succeeded; the facet tells how much arrived."""
        return self.get_openlineage_facets_on_complete(task_instance)
