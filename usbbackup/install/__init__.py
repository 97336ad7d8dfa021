"""Setting up and taking away: user units, the login hook, the first configuration, the doctor."""
