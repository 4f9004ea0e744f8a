"""What every benchmark needs: the work, the folders, the processes that measure, and the tables."""
