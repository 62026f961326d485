"""The transfer engine: endpoints, stores, plans, dataplanes and the Python API.

Importing this package loads no cloud SDK and no Airflow; boto3, google-auth and azure-identity are imported
where the environment's credentials for a bucket are resolved, and nowhere else.
"""

__version__ = "0.1.0"
