"""How a backup is made, kept and listed; knows nothing of how drives come and go."""
