"""Models that ship, a module for each framework."""
