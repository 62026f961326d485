"""Runs one DAG file of example_dags/ with ``dag.test()`` and says by exit code whether the run succeeded.

Usage: ``python scripts/demo_dag.py FILE``. Expects a migrated database under AIRFLOW_HOME, and the connections in the
environment.
"""

from __future__ import annotations

import runpy
import sys


def main(path: str) -> int:
    """Import the file, run the DAG that it defines, and wait for the end."""
    from airflow.sdk import DAG

    dags = [value for value in runpy.run_path(path).values() if isinstance(value, DAG)]
    if len(dags) != 1:
        print(f"{path} defines {len(dags)} DAGs, expected one", file=sys.stderr)
        return 2
    run = dags[0].test()
    print(f"DAG {dags[0].dag_id}: {run.state}")
    return 0 if str(run.state) == "success" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
