"""Pure statistics: numpy and scipy, no input or output."""
