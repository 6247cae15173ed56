"""Images on disk: files of any format decoded in parallel, and the arrays of MNIST's and CIFAR-10's own formats."""
