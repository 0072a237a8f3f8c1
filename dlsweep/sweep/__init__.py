"""The sweep: search space, study, settings and the loop that asks, launches and tells."""
