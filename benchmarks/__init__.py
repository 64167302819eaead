"""Side by side with the obvious alternative, as ratios of times taken in one run."""
