"""What a run will take: time, money, and what it waits for. Knows nothing of Ray."""
