"""A transfer as one page of HTML that needs nothing else."""
