"""What every snapshot on every drive holds, kept at home, to find a file while its drive lies in a drawer."""
