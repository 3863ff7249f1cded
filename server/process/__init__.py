"""Server processes: a supervisor, its listening sockets, and what one process runs."""
