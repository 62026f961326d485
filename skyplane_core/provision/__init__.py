"""Making and destroying the gateways of a dataplane: one module for each kind of place."""
