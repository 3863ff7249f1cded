"""The database schema as numbered migrations, and the program that applies them."""
