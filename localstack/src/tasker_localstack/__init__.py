"""AWS on this machine: LocalStack whose functions are processes, a PostgreSQL with TLS, and the topology deployed."""
