"""Plans of runs before they start: what they would do, what they need, what is wrong."""
