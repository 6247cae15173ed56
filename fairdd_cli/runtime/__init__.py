"""The shared runtime: device, precision, memory, random streams, processes and checkpoints."""
