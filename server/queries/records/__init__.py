"""Small tables that people edit: annotations, budgets and projects."""
