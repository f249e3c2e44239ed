"""The kernels behind the operators, by device: statistics, workspaces and temporaries in bytes."""
