"""The planner against its references; `python -m bench.plan.table --write docs/plan.md` makes the table."""
