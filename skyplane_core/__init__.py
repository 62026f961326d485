"""The transfer engine: endpoints, stores, plans, dataplanes and the Python API.

Importing this package loads no cloud SDK and no Airflow; each store's SDK is imported inside that
store's own module, when a store of that kind is opened.
"""

__version__ = "0.1.0"
