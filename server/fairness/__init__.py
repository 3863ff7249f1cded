"""What tenants share: who is counted, and queues that no one of them can fill."""
