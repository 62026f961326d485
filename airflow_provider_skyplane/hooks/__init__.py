"""Airflow connections in, engine values out."""
