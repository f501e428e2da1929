"""Running a network on the CPU: layer by layer, or by plan."""
