"""Who is alive: the lease of a runner, and the recovery of what the dead owned."""
