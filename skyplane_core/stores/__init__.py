"""Object stores: one protocol, and the modules of each store. See :mod:`skyplane_core.stores.base`."""
