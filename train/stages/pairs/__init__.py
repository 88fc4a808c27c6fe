"""What our own preference trainers share: two answers to one prompt, one forward, exact means."""
