"""One distillation run: real batches, synthetic set, signals and their distances, sampling, clusters, experts."""
