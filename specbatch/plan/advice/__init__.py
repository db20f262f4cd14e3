"""What a plan says: what to run, what does not fit, who does what when; and all of it as text."""
