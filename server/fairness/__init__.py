"""Resources that tenants share: the parties that are counted, and queues that no tenant can fill alone."""
