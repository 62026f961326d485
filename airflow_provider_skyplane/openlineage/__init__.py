"""What a transfer tells OpenLineage: its datasets, and a facet of its run."""
