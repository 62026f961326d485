"""What is added to Airflow's own web pages."""
