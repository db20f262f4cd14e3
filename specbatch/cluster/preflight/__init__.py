"""What is checked before a submit writes anything."""
