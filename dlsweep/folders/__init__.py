"""Run folders and study folders on disk: paths, records, locks, leases."""
