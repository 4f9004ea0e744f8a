"""Bodies in processes of their own: the executor in the runner's process, and the program that a child runs."""
