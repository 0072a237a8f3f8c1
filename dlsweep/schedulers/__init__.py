"""Learning rate schedules under PyTorch's names, a module for each framework that has others."""
