"""Section 5: recipes, the update rule, schedules, and the loop."""
