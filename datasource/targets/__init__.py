"""What answers the targets of the catalogue, by family."""
