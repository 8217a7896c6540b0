"""Networks, the contract that they all keep, and the one decoder that reads it."""
