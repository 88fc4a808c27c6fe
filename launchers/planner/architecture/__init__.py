"""The shape of a model from its config or its weights: what the planner counts."""
