"""What a test drives by hand: the clock, the machine, and the knowledge that nothing happens any more."""
