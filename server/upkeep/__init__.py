"""Background work on the store: retention, partitions, and removal of records that no longer decide anything."""
