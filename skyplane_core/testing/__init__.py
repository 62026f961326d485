"""Test tools for this project and for users' own tests. Nothing that runs in production imports them."""
