"""What this machine has: devices, NVML, cheap imports."""
