"""What bodies ask for while they run: checkpoints and deferrals."""
