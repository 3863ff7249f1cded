"""JSON as text: strict reading, and writing that keeps all digits."""
