"""What is predicted of rounds and of placements, and what was measured held against it."""
