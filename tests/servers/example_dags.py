"""The example DAGs, loaded and run as ``python example_dags/<name>.py`` does, in this process."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import airflow

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"


def load(name: str) -> Any:
    """The DAG of an example, with the environment as it is now."""
    # Airflow runs only what lies in its DAGs folder.
    path = shutil.copy(EXAMPLES / f"{name}.py", os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for task in module.dag.tasks:
        # What is mapped has its arguments elsewhere.
        if type(task).__name__ != "MappedOperator":
            _hurry(task)
    if airflow.__version__.startswith("3.0."):
        _activate(module.dag)
    return module.dag


def _activate(dag: Any) -> None:
    """As a scheduler does: Airflow 3.0's own ``dag.test()`` refuses tasks whose outlets no scheduler has seen."""
    from airflow.assets.manager import asset_manager
    from airflow.models.asset import AssetActive
    from airflow.sdk import Asset
    from airflow.utils.session import create_session

    assets = {
        (asset.name, asset.uri): asset
        for task in dag.tasks
        for asset in [*task.inlets, *task.outlets]
        if isinstance(asset, Asset)
    }
    with create_session() as session:
        known = {(active.name, active.uri) for active in session.query(AssetActive)}
        missing = [asset for key, asset in assets.items() if key not in known]
        models = asset_manager.create_assets(missing, session=session)
        session.add_all([AssetActive.for_asset(model) for model in models])


def _hurry(task: Any) -> None:
    """What fails is seen at once, and what is waited for looked at often."""
    task.retries = 0
    for name in ("poke_interval", "poll_interval"):
        if hasattr(task, name):
            setattr(task, name, 0.1)


def states(run: Any) -> dict[str, str]:
    """How each task instance ended, those of mapped tasks by ``task[index]``."""
    return {
        ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": str(ti.state)
        for ti in run.get_task_instances()
    }


def result(run: Any, task_id: str) -> Any:
    """What a task of a run that succeeded has returned."""
    assert run.state == "success", states(run)
    found = [ti for ti in run.get_task_instances() if ti.task_id == task_id]
    values = [
        ti.xcom_pull(task_ids=task_id, map_indexes=ti.map_index) for ti in sorted(found, key=lambda ti: ti.map_index)
    ]
    return values if found[0].map_index >= 0 else values[0]
