"""AWS on this machine: LocalStack with functions as processes, a PostgreSQL with TLS, and the deployed topology."""
