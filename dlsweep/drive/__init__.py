"""The driver: starts runs through a launcher, watches their folders, shows progress."""
