"""The Apache Airflow provider: hook, operators, triggers and the drop-in for ``S3ToGCSOperator``."""

from skyplane_core import __version__

__all__ = ["__version__"]
